from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model, make_inputs
from dioe.types import InputError, ModelError
from tests.unit.graph import models

Array = np.ndarray[Any, np.dtype[Any]]


def made(proto: onnx.ModelProto, shapes: Any = None, seed: int = 0) -> dict[str, Any]:
    return dict(make_inputs(Model.load(proto), shapes, seed))


def test_the_same_seed_gives_the_same_feed() -> None:
    first, again, other = (made(models.conv_net(), seed=seed)["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pictures_are_smooth_and_neither_zero_nor_noise() -> None:
    picture: Array = made(models.conv_net(), {"x": (1, 3, 64, 64)})["x"]
    assert picture.dtype == np.float32
    assert 0.5 < np.abs(picture).max() <= 1
    assert picture.std() > 0.05
    steps = np.diff(picture, axis=-1).std()
    assert 0 < steps < picture.std(), "neighbours should be alike"  # 1.41 times in noise


def test_defaults_of_unknown_dimensions() -> None:
    assert made(models.conv_net())["x"].shape == (1, 3, 224, 224)
    assert made(models.attention_net())["ids"].shape == (1, 64)
    relu = [helper.make_node("Relu", ["x"], ["y"], name="r")]
    assert made(models.model(relu, {"x": ["n", "t"]}, {"y": None}))["x"].shape == (1, 512)
    assert made(models.model(relu, {"x": ["n", None, None]}, {"y": None}))["x"].shape == (1, 8, 8)
    last = models.model(relu, {"x": [None, None, None, 3]}, {"y": None})
    assert made(last)["x"].shape == (1, 224, 224, 3)


def test_one_symbol_has_one_size() -> None:
    add = [helper.make_node("Add", ["a", "b"], ["y"], name="add")]
    feed = made(models.model(add, {"a": [None, "t"], "b": ["t"]}, {"y": None}))
    assert feed["a"].shape[1] == feed["b"].shape[0]


def test_indices_stay_inside_the_table() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["ids", "one"], ["u"], name="u"),
        helper.make_node("Cast", ["u"], ["c"], name="c", to=TensorProto.INT32),
        helper.make_node("Gather", ["w", "c"], ["y"], name="g"),
    ]
    table = models.weights(0, 11, 4, name="w")
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    proto = models.model(nodes, {"ids": [5, 40]}, {"y": None}, [table, one], element=7)
    ids: Array = made(proto)["ids"]
    assert ids.min() >= 0
    assert ids.max() == 10
    assert len(np.unique(ids)) > 5


def test_indices_stay_inside_a_table_that_is_dequantised() -> None:
    nodes = [
        helper.make_node("Cast", ["w"], ["f"], name="c", to=TensorProto.FLOAT),
        helper.make_node("Gather", ["f", "ids"], ["y"], name="g"),
    ]
    table = numpy_helper.from_array(np.arange(-6, 6, dtype=np.int8).reshape(6, 2), "w")
    ids = made(models.model(nodes, {"ids": [50]}, {"y": None}, [table], element=7))["ids"]
    assert set(np.unique(ids)) <= set(range(6))


def test_masks_are_ones() -> None:
    nodes = [
        helper.make_node("Cast", ["m"], ["f"], name="c", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "f"], ["y"], name="s"),
    ]
    proto = models.model(nodes, {"m": [2, 8]}, {"y": None}, [models.scalar(1.0, "one")], element=7)
    np.testing.assert_array_equal(made(proto)["m"], 1)
    named = [helper.make_node("Identity", ["attention_mask"], ["y"], name="i")]
    proto = models.model(named, {"attention_mask": [2, 8]}, {"y": None}, element=7)
    np.testing.assert_array_equal(made(proto)["attention_mask"], 1)


def test_a_compared_scalar_gets_the_value_it_is_compared_with() -> None:
    proto = models.parse("""test (int64 sr, float[2] x) => (float[2] y) <int64 rate = {16000}> {
      is = Equal (sr, rate)
      y = If (is) <then_branch = a () => (float[2] p) { p = Relu (x) },
                   else_branch = b () => (float[2] q) { q = Neg (x) }>
    }""")
    assert made(proto)["sr"] == 16000


def test_inputs_of_bodies_are_seen() -> None:
    proto = models.parse("""test (bool f, int64[9] i) => (float[9] y) <float[3] w = {1,2,3}> {
      y = If (f) <then_branch = a () => (float[9] p) { p = Gather (w, i) },
                  else_branch = b () => (float[9] q) { q = Cast <to = 1> (i) }>
    }""")
    assert made(proto)["i"].max() <= 2


def test_long_signals_are_sines() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="r")]
    wave: Array = made(models.model(nodes, {"x": [1, 16000, 1]}, {"y": None}))["x"].reshape(-1)
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    strongest = np.sort(spectrum)[::-1]
    assert strongest[:40].sum() > 0.8 * spectrum.sum(), "a few tones should carry the energy"


@pytest.mark.parametrize(
    ("element", "shape"),
    [
        (TensorProto.STRING, [3]),
        (TensorProto.BOOL, [200]),
        (TensorProto.UINT8, [1, 3, 16, 16]),
        (TensorProto.INT8, [1, 3, 16, 16]),
        (TensorProto.FLOAT16, [2, 8]),
        (TensorProto.BFLOAT16, [2, 8]),
        (TensorProto.DOUBLE, []),
        (TensorProto.COMPLEX64, [4, 4]),
        (TensorProto.INT32, [2, 8]),
        (TensorProto.INT4, [4, 8]),
        (TensorProto.UINT4, [2, 4, 8]),
        (TensorProto.UINT2, [2, 8]),
        (TensorProto.FLOAT, [0, 4]),
    ],
)
def test_every_dtype_is_made(element: int, shape: list[int]) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], name="i")],
        "g",
        [info("x", element, shape)],
        [info("y", element, shape)],
    )
    loaded = Model.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    value: Any = make_inputs(loaded)["x"]
    assert value.dtype == loaded.inputs[0].dtype
    if 0 not in shape and element != TensorProto.STRING:
        assert np.any(value != 0)


def test_sequences_are_lists() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph(
        [helper.make_node("SequenceLength", ["s"], ["y"], name="n")],
        "g",
        [helper.make_value_info("s", helper.make_sequence_type_proto(tensor))],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert [value.shape for value in made(proto)["s"]] == [(2, 3), (2, 3)]


def test_what_can_not_be_guessed_is_an_error() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="r")]
    proto = models.model(nodes, {"x": [1]}, {"y": None})
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(InputError, match="rank of input 'x' is unknown"):
        made(proto)
    assert made(proto, {"x": (2, 3)})["x"].shape == (2, 3)
    with pytest.raises(InputError, match="no input 'z'"):
        made(proto, {"z": (2, 3)})


def test_inputs_of_absurd_sizes_are_not_made() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="r")]
    huge = models.model(nodes, {"x": [2**40, 2**30]}, {"y": None})
    with pytest.raises(InputError, match=r"input 'x' of shape \[.*,1073741824\]") as caught:
        made(huge)
    assert "would take 4,722,366,482,869.6 GB; no more than 1.1 GB" in caught.value.cause
    assert caught.value.fix.startswith("give a smaller shape, such as --shape x=")
    open_ended = models.model(nodes, {"x": ["n", 2**20]}, {"y": None})
    assert made(open_ended, {"x": (1, 2**20)})["x"].nbytes == 2**22
    with pytest.raises(InputError, match=r"would take 4\.3 GB"):
        made(open_ended, {"x": (2**10, 2**20)})
    words = models.model(nodes, {"x": [2**40]}, {"y": None}, element=TensorProto.STRING)
    with pytest.raises(InputError, match=r"would take 8,796\.1 GB"):
        made(words)


def test_what_readers_say_wrongly_is_a_model_error() -> None:
    proto = models.model(
        [helper.make_node("Cast", ["x"], ["y"], name="c")], {"x": [2, 3]}, {"y": None}, element=7
    )
    with pytest.raises(ModelError, match=r"not a valid ONNX model.*'to'"):
        made(proto)


@pytest.mark.parametrize(
    ("element", "low", "high"),
    [
        ("int64", -(2**20), 2**20),
        ("int32", -(2**20), 2**20),
        ("uint32", 0, 2**20),
        ("int16", -(2**15), 2**15 - 1),
        ("uint8", 0, 255),
        ("int8", -128, 127),
    ],
)
def test_numbers_that_are_only_calculated_with_are_wide(element: str, low: int, high: int) -> None:
    proto = models.parse(f"""test ({element}[64,64] a, {element}[64,64] b) => ({element}[64,64] y)
        {{ s = Add (a, b)  t = Transpose (s)  y = Mul (t, a) }}""")
    value = made(proto)["a"].astype(np.int64)
    assert low <= value.min() < low + (high - low) / 16
    assert high - (high - low) / 16 < value.max() <= high


def test_bytes_that_become_floats_are_wide() -> None:
    proto = models.parse("test (uint8[8,64] x) => (float[8,64] y) { y = Cast <to = 1> (x) }")
    assert made(proto)["x"].max() > 200


@pytest.mark.parametrize(
    "text",
    [
        "(int64[64] i) => (float[64] y) { y = Cast <to = 1> (i) }",
        "(int64[64] i, float[n] t) => (float[64] y) <int64 o = {2}> "
        "{ j = Add (i, o)  y = Gather (t, j) }",
        "(int64[64] i, int64[64] j) => (bool[64] y) { y = Less (i, j) }",
        "(int64[64] i, int64[64] j) => (int64[64] y) { y = Div (j, i) }",
        "(int64[64] i) => (int64[m] y) <int64 o = {0}, int64 d = {1}> "
        "{ l = ReduceMax <keepdims = 0> (i)  y = Range (o, l, d) }",
        "(bool f, int64[64] i, float[n] t) => (float[64] y) { j = If (f) <"
        "then_branch = a () => (int64[64] p) { p = Neg (i) },"
        "else_branch = b () => (int64[64] q) { q = Abs (i) }> y = Gather (t, j) }",
        "(int64 i) => (int64 y) { y = Neg (i) }",
        "(int64[64] i, int64[64] x) => (int64[64] y) { y = Neg (x) }",
    ],
)
def test_numbers_that_mean_something_stay_small(text: str) -> None:
    value = made(models.parse(f"test {text}"), {"t": (5,)} if "[n] t" in text else None)["i"]
    assert value.min() >= 1
    assert value.max() < 8


def test_numbers_for_ops_of_custom_domains_stay_small() -> None:
    proto = models.parse("test (int64[64] i) => (int64[64] y) { y = Neg (i) }")
    proto.graph.node[0].domain = "com.mine"
    proto.opset_import.append(helper.make_opsetid("com.mine", 1))
    assert made(proto)["i"].max() < 8


def test_indices_into_a_table_stay_inside_beside_arithmetic() -> None:
    proto = models.parse("""test (int32[64] i) => (float[64] y, int32[64] z)
        <float[5] t = {1,2,3,4,5}> { y = Gather (t, i)  z = Add (i, i) }""")
    assert set(np.unique(made(proto)["i"])) <= set(range(5))
