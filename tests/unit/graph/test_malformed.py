"""Malformed models end in errors that DIOE raises on purpose, whatever libraries do about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from dioe.graph import Model, OpGraph, find_blocks, make_inputs
from dioe.graph.guard import reading, words
from dioe.graph.payload import fault
from dioe.types import DioeError, InputError, ModelError
from tests.unit.graph import models


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """``data`` cut short, or with one to three bytes changed, flipped, removed or put in."""
    if rng.random() < 0.15:
        return data[: int(rng.integers(len(data)))]
    result = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place, kind = int(rng.integers(len(result))), int(rng.integers(4))
        if kind == 0:
            result[place] = int(rng.integers(256))
        elif kind == 1:
            result[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del result[place]
        else:
            result.insert(place, int(rng.integers(256)))
    return bytes(result)


def use(source: Any) -> None:
    """Everything that reads a model's parts; sizes of made-up inputs are kept small."""
    model = Model.load(source)
    assert model.sha256
    assert len(model.op_types) <= len(model.op_ids) + 16
    assert isinstance(model.quantised, bool)
    assert model.weight_bytes >= 0
    assert len(model.inputs) + len(model.outputs) > 0
    assert model.to_bytes()
    graph = OpGraph.build(model)
    assert len(find_blocks(graph)) <= len(graph.ids)
    known = [dim for spec in model.inputs for dim in spec.shape or () if isinstance(dim, int)]
    if np.prod([1.0, *known]) < 2**20:
        make_inputs(model)


def small_net() -> onnx.ModelProto:
    return models.parse("""test (float[n,4] x) => (float[n,4] y)
      <float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {
        [fc] a = Gemm (x, w)
        [soft] y = Softmax <axis = -1> (a)
      }""")


def function_net() -> onnx.ModelProto:
    return onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        test (float[2,n] x, int64[k] i) => (float[2,n] y, float[k,3] g)
        <float[4,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
        { y = mine.twice (x)  c = Constant <value = int64 {1}> ()  j = Add (i, c)
          g = Gather (w, i) }
        <domain: "mine", opset_import: ["" : 17]>
        twice (a) => (b) { s = Shape (a)  r = Reshape (a, s)  b = Add (a, r) }
    """)


@pytest.mark.parametrize(
    "build", [small_net, models.control_net, function_net], ids=lambda build: build.__name__
)
@pytest.mark.filterwarnings("ignore")  # libraries may warn about what they are given
def test_mutations_end_in_models_or_errors_of_dioe(build: Callable[[], onnx.ModelProto]) -> None:
    data = build().SerializeToString()
    rng = np.random.default_rng(7)
    refused: list[DioeError] = []
    for _ in range(100):
        try:
            use(mutated(data, rng))
        except DioeError as error:
            refused.append(error)
    assert 20 < len(refused) < 100
    assert all(error.fix for error in refused)
    texts = [str(error) for error in refused]
    assert all(char.isprintable() or char == "\n" for text in texts for char in text)


def tensor(**fields: Any) -> onnx.TensorProto:
    return onnx.TensorProto(**fields)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tensor(data_type=1, dims=[4, 3], raw_data=bytes(40)), "48 bytes, and holds 40"),
        (tensor(data_type=1, dims=[4], float_data=[1, 2, 3]), "4 values in float_data.* holds 3"),
        (tensor(data_type=14, dims=[2], float_data=[1, 2]), "4 values in float_data"),
        (tensor(data_type=22, dims=[3], int32_data=[1]), "2 values in int32_data"),
        (tensor(data_type=22, dims=[3], raw_data=b"1"), "2 bytes, and holds 1"),
        (tensor(data_type=8, dims=[2], string_data=[b"a"]), "2 values in string_data"),
        (tensor(data_type=1, dims=[2, -1], float_data=[1, 2]), "negative dimension"),
        (tensor(data_type=0, dims=[1], float_data=[1]), "data type 0, which doesn't exist"),
        (tensor(data_type=99, dims=[1], float_data=[1]), "data type 99"),
        (tensor(data_type=1, dims=[2**40, 2**40], raw_data=b"1234"), "holds 4"),
        (tensor(data_type=8, dims=[1], data_location=1), "strings"),
    ],
)
def test_tensors_whose_data_is_not_what_they_say(bad: onnx.TensorProto, message: str) -> None:
    given = small_net()
    given.graph.initializer[0].CopyFrom(bad)
    given.graph.initializer[0].name = "w"
    with pytest.raises(ModelError, match=f"initializer 'w' .*{message}"):
        Model.load(given)
    inside = models.control_net()
    body = inside.graph.node[2].attribute[0].g
    body.node.insert(0, helper.make_node("Constant", [], ["k"], name="constant", value=bad))
    with pytest.raises(ModelError, match=f"'value' of op 'constant' .*{message}"):
        Model.load(inside)
    function = function_net()
    function.functions[0].node[0].CopyFrom(helper.make_node("Constant", [], ["s"], value=bad))
    with pytest.raises(ModelError, match=f"'value' of op 's' .*{message}"):
        Model.load(function)


@pytest.mark.parametrize("element", sorted(set(TensorProto.DataType.values()) - {0}))
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("shape", [(), (5,), (3, 1, 2), (2, 0)])
def test_tensors_that_onnx_makes_are_right(element: int, raw: bool, shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape))
    if element == TensorProto.STRING:
        made = onnx.TensorProto(data_type=element, dims=shape, string_data=[b"a"] * count)
    elif raw:
        made = ir.to_proto(ir.tensor(np.ones(shape, ir.DataType(element).numpy()), name="t"))
    else:
        made = helper.make_tensor("t", element, shape, [1] * count)
    assert fault(made) is None


def test_data_in_sparse_constants_is_looked_at() -> None:
    values = tensor(name="v", data_type=1, dims=[2], float_data=[1.0])
    indices = tensor(data_type=7, dims=[2], int64_data=[0, 1])
    sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=[4])
    proto = small_net()
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["k"], sparse_value=sparse))
    with pytest.raises(ModelError, match=r"'sparse_value' of op 'k'.*holds 1"):
        Model.load(proto)


@pytest.mark.parametrize("version", [-1, 0, 10**6, 2**40])
def test_opset_versions_that_can_not_be(version: int) -> None:
    proto = small_net()
    proto.opset_import[0].version = version
    with pytest.raises(ModelError, match=f"imports opset {version} of domain 'ai.onnx'"):
        Model.load(proto)
    function = function_net()
    function.functions[0].opset_import[0].version = version
    with pytest.raises(ModelError, match=f"function 'twice': imports opset {version}"):
        Model.load(function)


def test_versions_of_custom_domains_are_the_backends_matter() -> None:
    proto = small_net()
    proto.graph.node[1].domain = "mine"
    proto.opset_import.append(helper.make_opsetid("mine", 1000))
    assert Model.load(proto).sha256
    proto.opset_import[1].version = 2**31
    with pytest.raises(ModelError, match="domain 'mine'"):
        Model.load(proto)


def test_types_that_do_not_exist() -> None:
    proto = small_net()
    proto.graph.input[0].type.tensor_type.elem_type = 77
    with pytest.raises(ModelError, match="'x' has the data type 77"):
        Model.load(proto)


def test_names_that_are_missing() -> None:
    proto = small_net()
    proto.graph.input.append(proto.graph.input[0])
    proto.graph.input[1].name = ""
    with pytest.raises(ModelError, match="input has no name"):
        Model.load(proto)


@pytest.mark.parametrize("name", [b"Gemm", b"test", b"fc", b"a", b"w", b"x", b"n", b"alpha"])
def test_names_that_are_not_utf8(name: bytes) -> None:
    proto = small_net()
    proto.graph.node[0].attribute.append(helper.make_attribute("alpha", 1.0))
    data = proto.SerializeToString()
    length = bytes([len(name)])
    assert length + name in data
    with pytest.raises(ModelError, match="UTF-8") as caught:
        Model.load(data.replace(length + name, length + b"\xff" * len(name)))
    assert caught.value.fix


def test_parts_that_are_looked_at_late_end_in_model_errors() -> None:
    source = ir.from_proto(small_net())
    loaded = Model(source)
    weight = ir.serde.TensorProtoTensor(tensor(name="w", data_type=1, dims=[9], raw_data=b"1234"))
    source.graph.initializers["w"].const_value = weight
    for read in (lambda: loaded.sha256, lambda: loaded.inferred, lambda: OpGraph.build(loaded)):
        with pytest.raises(ModelError, match="not a valid ONNX model") as caught:
            read()
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        TypeError("bad"),
        KeyError("bad"),
        IndexError("bad"),
        AttributeError("bad"),
        OverflowError("bad"),
        RecursionError("bad"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        DecodeError("bad"),
        ir.serde.SerdeError("bad"),
        onnx.checker.ValidationError("bad"),
        onnx.shape_inference.InferenceError("bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_libraries_raise_becomes_a_model_error(error: Exception) -> None:
    with pytest.raises(ModelError, match="bad") as caught, reading("here"):
        raise error
    assert caught.value.place == "here"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), OSError(), InputError("x")])
def test_what_is_not_the_models_fault_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, reading("here"):
        raise error
    assert caught.value is error


def test_words_of_libraries_are_one_printable_line() -> None:
    assert words(ValueError("a\n  b\x1b[2J")) == "a b\\x1b[2J"
    assert words(KeyError("k")) == "KeyError 'k'"
    assert words(AssertionError()) == "AssertionError"
    assert len(words(ValueError("x" * 9999))) < 600


def test_files_are_named(tmp_path: Path) -> None:
    proto = small_net()
    proto.opset_import[0].version = 2**40
    path = tmp_path / "absurd.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="opset") as caught:
        Model.load(path)
    assert caught.value.place == str(path)


# --- names from models in messages ------------------------------------------------------------

ESCAPE = "\x1b[2J\r\n\x07"


def escaping() -> onnx.ModelProto:
    """A model whose names all have control characters in them."""
    proto = function_net()
    proto.graph.name = f"graph{ESCAPE}"
    for node in (*proto.graph.node, *proto.functions[0].node):
        node.name = f"{node.output[0]}{ESCAPE}"
    for info in proto.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param += ESCAPE
    for thing in (*proto.graph.input, *proto.graph.initializer, *proto.graph.output):
        thing.name += ESCAPE
    for node in proto.graph.node:
        names = [f"{name}{ESCAPE}" if name in "xiwyg" else name for name in node.input]
        del node.input[:]
        node.input.extend(names)
        names = [f"{name}{ESCAPE}" if name in "yg" else name for name in node.output]
        del node.output[:]
        node.output.extend(names)
    proto.functions[0].name += ESCAPE
    proto.functions[0].domain += ESCAPE
    proto.graph.node[0].op_type += ESCAPE
    proto.graph.node[0].domain += ESCAPE
    proto.opset_import[1].domain += ESCAPE
    return proto


def _put_outside(weight: onnx.TensorProto, key: str) -> None:
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key=key, value=f"no{ESCAPE}")


CHANGES: dict[str, Callable[[onnx.ModelProto], object]] = {
    "standard op": lambda p: setattr(p.graph.node[1], "op_type", f"no{ESCAPE}"),
    "domain": lambda p: setattr(p.graph.node[1], "domain", f"no{ESCAPE}"),
    "opset": lambda p: setattr(p.opset_import[1], "version", 2**40),
    "function opset": lambda p: setattr(p.functions[0].opset_import[0], "version", 0),
    "function op": lambda p: setattr(p.functions[0].node[0], "op_type", f"no{ESCAPE}"),
    "read": lambda p: p.graph.node[0].input.__setitem__(0, f"no{ESCAPE}"),
    "made twice": lambda p: p.graph.node[0].output.__setitem__(0, f"g{ESCAPE}"),
    "output": lambda p: setattr(p.graph.output[0], "name", f"no{ESCAPE}"),
    "input twice": lambda p: p.graph.input.append(p.graph.input[0]),
    "untyped": lambda p: p.graph.input[0].ClearField("type"),
    "type": lambda p: setattr(p.graph.input[0].type.tensor_type, "elem_type", 99),
    "tensor": lambda p: setattr(p.graph.initializer[0], "data_type", 99),
    "external": lambda p: _put_outside(p.graph.initializer[0], "location"),
    "offset": lambda p: _put_outside(p.graph.initializer[0], "offset"),
    "cycle": lambda p: p.graph.node[2].input.__setitem__(0, "j"),
    "attribute": lambda p: p.graph.node[3].attribute.append(
        helper.make_attribute(f"no{ESCAPE}", tensor(data_type=99))
    ),
}


def is_safe(error: DioeError) -> bool:
    return all(text.isprintable() for text in (error.cause, error.place, error.fix))


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("from_file", [True, False])
def test_control_characters_of_names_stay_out_of_messages(
    what: str, from_file: bool, tmp_path: Path
) -> None:
    proto = escaping()
    CHANGES[what](proto)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    source = path if from_file else proto
    with pytest.raises(ModelError) as caught:
        Model.load(source)
    assert is_safe(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "shapes",
    [
        {"no": (1,)},
        {f"x{ESCAPE}": (1,)},
        {f"x{ESCAPE}": (3, 3)},
        {f"x{ESCAPE}": (2, -3)},
        {f"x{ESCAPE}": 3},
        {f"x{ESCAPE}": (2, 2**62)},
    ],
    ids=str,
)
def test_control_characters_of_names_stay_out_of_input_errors(shapes: Any) -> None:
    model = Model.load(escaping())
    assert model.place.isprintable()
    with pytest.raises(InputError) as caught:
        make_inputs(model, shapes)
    assert is_safe(caught.value), str(caught.value)
