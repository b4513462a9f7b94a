from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from dioe.graph import Model, OpGraph, find_blocks, make_inputs
from dioe.graph.loading import op_ids
from dioe.types import ModelError
from tests.unit.graph import models


def save_external(proto: onnx.ModelProto, path: Path, **options: Any) -> Path:
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, location="w.bin", size_threshold=0, **options)
    return path


def test_every_kind_of_source_gives_the_same_model(tmp_path: Path) -> None:
    proto = models.conv_net()
    path = tmp_path / "a.onnx"
    onnx.save(proto, path)
    loaded = Model.load(path)
    sources: list[Any] = [str(path), path.read_bytes(), proto, ir.from_proto(proto), loaded]
    assert {Model.load(source).sha256 for source in sources} == {loaded.sha256}
    assert loaded.path == path
    assert Model.load(proto).path is None
    assert Model.load(loaded) is loaded


def test_something_else_is_no_source() -> None:
    with pytest.raises(ModelError, match="can't load a model from int"):
        Model.load(3)  # type: ignore[arg-type]


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(64))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (PNG, "not an ONNX model"),
        (b"once upon a time there was a model\n" * 20, "not an ONNX model"),
        (models.conv_net().SerializeToString()[:-200], "cut short or damaged"),
        (models.conv_net().SerializeToString()[:5], "no graph|cut short|not an ONNX"),
        (onnx.ModelProto(producer_name="x").SerializeToString(), "no graph"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message) as caught:
        Model.load(path)
    assert caught.value.place == str(path)
    assert caught.value.fix


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        Model.load(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError, match="directory"):
        Model.load(tmp_path)


def broken(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    proto = models.conv_net()
    change(proto)
    return proto


def _set(thing: Any, field: str, value: object) -> None:
    setattr(thing, field, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: _set(p.graph.node[0], "op_type", "Convolve"), "'conv1'.*no op 'Convolve'"),
        (lambda p: _set(p.graph.node[0], "op_type", "Gelu"), "no op 'Gelu' at opset 17"),
        (lambda p: _set(p.graph.node[0], "domain", "my.own"), "'my.own', which isn't imported"),
        (lambda p: p.ClearField("opset_import"), "names no opset"),
        (lambda p: p.graph.node[1].input.__setitem__(0, "ghost"), "'ghost', which nothing makes"),
        (lambda p: p.graph.node[1].output.__setitem__(0, "c1"), "'c1', which exists already"),
        (lambda p: p.graph.node[1].output.__setitem__(0, "x"), "'x', which exists already"),
        (lambda p: _set(p.graph.output[0], "name", "ghost"), "output 'ghost' is made by nothing"),
        (lambda p: p.graph.initializer.append(p.graph.initializer[0]), "'w1' is there twice"),
        (lambda p: p.graph.node[0].input.__setitem__(0, "y1"), "has a cycle"),
        (lambda p: p.graph.sparse_initializer.add(), "sparse"),
        (lambda p: p.graph.ClearField("output"), "has no outputs"),
        (lambda p: p.graph.input[0].ClearField("type"), "input 'x' has no type"),
        (lambda p: p.graph.input[0].type.tensor_type.ClearField("elem_type"), "'x' has no type"),
    ],
)
def test_an_invalid_graph_is_refused_with_the_op_named(
    change: Callable[[onnx.ModelProto], object], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Model.load(broken(change))
    assert caught.value.fix


def test_a_model_needs_no_inputs() -> None:
    proto = models.parse("test () => (float[2] y) <float[2] w = {1, 2}> { y = Neg (w) }")
    loaded = Model.load(proto)
    assert loaded.inputs == ()
    assert make_inputs(loaded) == {}
    assert find_blocks(OpGraph.build(loaded))[0].ops == ("y",)


def test_an_input_with_a_default_has_the_type_of_that() -> None:
    proto = models.conv_net()
    proto.graph.input.append(onnx.ValueInfoProto(name="w3"))
    assert [spec.name for spec in Model.load(proto).inputs] == ["x"]


def test_unknown_names_inside_bodies_are_found() -> None:
    proto = models.control_net()
    body = proto.graph.node[2].attribute[0].g
    body.node[0].input[0] = "ghost"
    with pytest.raises(ModelError, match="'ghost'"):
        Model.load(proto)


def test_custom_domains_are_left_to_backends() -> None:
    proto = models.conv_net()
    proto.graph.node[8].domain = "com.microsoft"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert Model.load(proto).op_types["com.microsoft::Relu"] == 1


def test_functions_of_the_model_are_known_ops() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        test (float[2,4] x) => (float[2,4] y) { y = mine.twice (x) }
        <domain: "mine", opset_import: ["" : 17]>
        twice (a) => (b) { b = Add (a, a) }
    """)
    assert Model.load(proto).op_ids == ("y",)
    proto.functions[0].node[0].op_type = "Nope"
    with pytest.raises(ModelError, match=r"function 'twice'.*'Nope'"):
        Model.load(proto)


def test_nodes_out_of_order_are_sorted() -> None:
    proto = models.conv_net()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    assert set(Model.load(proto).op_ids) == {node.name for node in nodes}
    assert Model.load(proto).op_ids[0] == "conv1"


def test_a_body_may_read_what_is_made_later() -> None:
    proto = models.control_net()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([nodes[2], nodes[0], nodes[1], *nodes[3:]])
    assert Model.load(proto).op_ids.index("branch") > 1


def test_ids_are_names_if_unique_and_else_first_outputs() -> None:
    nodes = [("a", ["x"]), ("a", ["y"]), ("", ["", "z"]), ("solo", ["w"]), ("x", ["v"]), (None, [])]
    assert op_ids(nodes) == ("x", "y", "z", "solo", "v", "op_5")
    assert op_ids([("x", ["x"]), ("y", ["z"])]) == ("x", "y")


def test_false_dimensions_are_unknown_and_no_symbol() -> None:
    proto = models.model(
        [helper.make_node("Relu", ["x"], ["y"], name="r")],
        {"x": ["?", -1, 0, "n", None]},
        {"y": ["?", -1, 0, "n", None]},
    )
    loaded = Model.load(proto)
    assert loaded.inputs[0].shape == (None, None, None, "n", None)
    assert loaded.outputs[0].shape == (None, None, None, "n", None)


# --- external data ----------------------------------------------------------------------------


def test_external_data_is_mapped(tmp_path: Path) -> None:
    proto = models.conv_net()
    loaded = Model.load(save_external(proto, tmp_path / "m.onnx"))
    weight = loaded.ir.graph.initializers["w1"].const_value
    assert weight is not None
    array = weight.numpy()
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert loaded.sha256 == Model.load(proto).sha256
    assert onnx.ModelProto.FromString(loaded.to_bytes()).graph.initializer[0].raw_data


def test_external_data_of_a_model_without_a_file(tmp_path: Path) -> None:
    path = save_external(models.conv_net(), tmp_path / "m.onnx")
    for source in (path.read_bytes(), onnx.load(path, load_external_data=False)):
        with pytest.raises(ModelError, match="without a file can't have"):
            Model.load(source)


def test_external_data_of_an_ir_model(tmp_path: Path) -> None:
    path = save_external(models.conv_net(), tmp_path / "m.onnx")
    assert Model.load(ir.load(path)).sha256 == Model.load(path).sha256


def test_missing_or_short_external_data(tmp_path: Path) -> None:
    path = save_external(models.conv_net(), tmp_path / "m.onnx")
    data = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(data[:100])
    with pytest.raises(ModelError, match="doesn't fit"):
        Model.load(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match="is missing"):
        Model.load(path)


@pytest.mark.parametrize("location", ["../w.bin", "{folder}/w.bin", "link.bin", "sub/../../w.bin"])
def test_external_data_stays_in_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = save_external(models.conv_net(), folder / "m.onnx")
    os.rename(folder / "w.bin", tmp_path / "w.bin")
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "sub").mkdir()
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location.format(folder=tmp_path)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="leaves the model's folder"):
        Model.load(path)


def with_external_entry(path: Path, key: str, value: str) -> None:
    """Change one entry of the external data of all initializers of a file."""
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        others = [entry for entry in tensor.external_data if entry.key != key]
        del tensor.external_data[:]
        tensor.external_data.extend(others)
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("location", "w\0.bin", r"can't be at 'w\\x00\.bin'"),
        ("location", "w" * 5000, "can't be at"),
        ("location", "loop", "can't be at|is missing"),
        ("location", "", "is missing"),
        ("location", "\x1b[2J", r"is missing: '\\x1b\[2J'"),
        ("offset", "-4", "the offset '-4', which is no size"),
        ("offset", "four", "the offset 'four', which is no size"),
        ("offset", "9" * 5000, "which is no size"),
        ("offset", str(2**63 - 1), "doesn't fit"),
        ("length", "-1", "the length '-1', which is no size"),
        ("length", "1e3", "the length '1e3', which is no size"),
        ("length", "7", "doesn't fit: 7 of"),
    ],
)
def test_external_data_that_can_not_be(tmp_path: Path, key: str, value: str, message: str) -> None:
    path = save_external(models.conv_net(), tmp_path / "m.onnx")
    (tmp_path / "loop").symlink_to("loop")
    with_external_entry(path, key, value)
    with pytest.raises(ModelError, match=message) as caught:
        Model.load(path)
    assert caught.value.fix
    assert caught.value.cause.isprintable()


@pytest.mark.parametrize("field", ["location", "offset", "length"])
def test_external_data_of_an_ir_model_that_can_not_be(tmp_path: Path, field: str) -> None:
    source = ir.load(save_external(models.conv_net(), tmp_path / "m.onnx"))
    old: Any = source.graph.initializers["w1"].const_value
    entry: dict[str, Any] = {"location": old.location, "offset": old.offset, "length": old.length}
    entry[field] = "w\0.bin" if field == "location" else -4
    source.graph.initializers["w1"].const_value = ir.ExternalTensor(
        **entry, dtype=old.dtype, shape=old.shape, name="w1", base_dir=tmp_path
    )
    with pytest.raises(ModelError, match=r"'w1' .*(can't be at|no size)|tensor 'w1' can't"):
        Model.load(source)


def test_external_data_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_external(models.conv_net(), tmp_path / "m.onnx")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(ModelError, match=r"external data in 'w\.bin' can't be read.*Permission"):
        Model.load(path)


def test_packed_external_data(tmp_path: Path) -> None:
    values = np.arange(-8, 7, dtype=np.int8).reshape(3, 5)
    tensor = helper.make_tensor("w", TensorProto.INT4, [3, 5], values.reshape(-1).tolist())
    nodes = [helper.make_node("Cast", ["w"], ["f"], name="c", to=TensorProto.FLOAT)]
    nodes.append(helper.make_node("MatMul", ["x", "f"], ["y"], name="m"))
    proto = models.model(nodes, {"x": [2, 3]}, {"y": [2, 5]}, [tensor], opset=21)
    inline = Model.load(proto).ir.graph.initializers["w"].const_value
    assert inline is not None
    (tmp_path / "w.bin").write_bytes(inline.tobytes())
    external = onnx.ModelProto.FromString(proto.SerializeToString())
    target = external.graph.initializer[0]
    target.ClearField("int32_data")
    target.ClearField("raw_data")
    target.data_location = TensorProto.EXTERNAL
    target.external_data.add(key="location", value="w.bin")
    (tmp_path / "m.onnx").write_bytes(external.SerializeToString())
    loaded = Model.load(tmp_path / "m.onnx")
    assert loaded.sha256 == Model.load(proto).sha256
    weight = loaded.ir.graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy().astype(np.int8), values)


def test_a_link_inside_the_folder_is_fine(tmp_path: Path) -> None:
    path = save_external(models.conv_net(), tmp_path / "m.onnx")
    os.rename(tmp_path / "w.bin", tmp_path / "real.bin")
    (tmp_path / "w.bin").symlink_to("real.bin")
    assert Model.load(path).sha256


# --- maps and other types ---------------------------------------------------------------------


def test_map_types_survive() -> None:
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[1, 2])
    value = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_value_info("y", helper.make_sequence_type_proto(value))],
    )
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    )
    loaded = Model.load(proto)
    assert loaded.outputs[0].kind == "sequence"
    assert loaded.outputs[0].dtype == np.float32
    assert onnx.ModelProto.FromString(loaded.to_bytes()).graph.output[0] == graph.output[0]
