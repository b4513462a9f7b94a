"""``Session.run``: right outputs that are the caller's own, whatever the feed looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from dioe.types import Array, InputError
from tests.toys import models
from tests.toys.values import close, tensor
from tests.unit.runtime.conftest import MakeSession

TARGETS = ["cpu/onnxruntime/fp32", "cpu/openvino/fp32", "cpu/reference/fp32", "cpu/toy/fp32"]

BIG = 1 << 18  # elements: outputs this large take another way through some backends


def rows(n: int, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_outputs_are_the_models(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, {"x": (4, 8)}, target=target)
    for seed in range(5):
        x = rows(4, seed=seed)
        outputs = session.run({"x": x})
        assert list(outputs) == ["y"]
        close(tensor(outputs), models.dense_output(model, x))


@pytest.mark.parametrize("target", TARGETS)
def test_outputs_are_the_callers_own(make_session: MakeSession, target: str) -> None:
    session = make_session(models.dense(), {"x": (4, 8)}, target=target)
    x1, x2 = rows(4, seed=1), rows(4, seed=2)
    first: Any = session.run({"x": x1})["y"]
    kept = first.copy()
    second: Any = session.run({"x": x2})["y"]
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)
    assert first.flags.writeable
    first[:] = np.nan
    third: Any = session.run({"x": x2})["y"]
    np.testing.assert_array_equal(third, second)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("elements", [4, BIG])
def test_outputs_that_alias_an_input_are_copied(
    make_session: MakeSession, target: str, elements: int
) -> None:
    session = make_session(
        models.parse(f"""
            g (float[1, {elements}] x) => (float[1, {elements}] y, float[{elements}] z) {{
                y = Identity(x)
                shape = Constant<value_ints = [{elements}]>()
                z = Reshape(x, shape)
            }}
        """),
        target=target,
    )
    x = rows(1, elements)
    before = x.copy()
    outputs: Any = session.run({"x": x})
    for array in outputs.values():
        assert not np.shares_memory(array, x)
        np.add(array, 1, out=array)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("target", TARGETS)
def test_outputs_that_are_constants_stay_the_models(make_session: MakeSession, target: str) -> None:
    model = models.with_weights(
        models.parse("""
            g (float[1, 4] x) => (float[1, 4] y, float[3] c) { y = Relu(x) c = Identity(w) }
        """),
        w=models.weights(3),
    )
    session = make_session(model, target=target)
    first: Any = session.run({"x": rows(1, 4)})["c"]
    expected = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(session.run({"x": rows(1, 4)})["c"], expected)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_are_not_changed(make_session: MakeSession, target: str) -> None:
    session = make_session(models.dense(), {"x": (4, 8)}, target=target)
    x = rows(4)
    before = x.copy()
    session.run({"x": x})
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_may_be_changed_after_the_run(make_session: MakeSession, target: str) -> None:
    session = make_session(models.relu(), target=target)
    x = rows(1, 4)
    y: Any = session.run({"x": x})["y"]
    expected = np.maximum(x, 0)
    x[:] = 5
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("target", TARGETS)
def test_read_only_and_strided_inputs_are_taken(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, {"x": (4, 8)}, target=target)
    strided = np.asarray(rows(8, 4).T)
    x = rows(4)
    x.flags.writeable = False
    for given in (strided, rows(8, 8)[::2], x, rows(4)[:, ::-1], np.asfortranarray(rows(4))):
        close(tensor(session.run({"x": given})), models.dense_output(model, given))


@pytest.mark.parametrize("target", TARGETS)
def test_python_lists_and_torch_tensors_are_taken(make_session: MakeSession, target: str) -> None:
    model = models.dense()
    session = make_session(model, {"x": (2, 8)}, target=target)
    x = rows(2)
    expected = models.dense_output(model, x)
    for given in (x.tolist(), torch.from_numpy(x), tuple(map(tuple, x.tolist()))):
        close(tensor(session.run({"x": given})), expected)


def test_scalars_are_taken(make_session: MakeSession) -> None:
    session = make_session(
        models.parse("g (float[2] x, int64 n) => (float[2] y) { m = Cast<to=1>(n) y = Mul(x, m) }")
    )
    x = np.array([0.5, -2.0], np.float32)
    for n in (3, np.int64(3), np.array(3), torch.tensor(3)):
        np.testing.assert_array_equal(session.run({"x": x, "n": n})["y"], x * 3)


@pytest.mark.parametrize("target", TARGETS)
def test_output_names_choose_and_order(make_session: MakeSession, target: str) -> None:
    session = make_session(models.branches(), {"x": (3, 6)}, target=target)
    x = rows(3, 6)
    whole = session.run({"x": x})
    assert list(whole) == ["y", "z"]
    for names in (["z", "y"], ("y", "z"), ["z"], ["y"], ["y", "y"]):
        part = session.run({"x": x}, names)
        assert list(part) == list(dict.fromkeys(names))
        for name in names:
            np.testing.assert_array_equal(part[name], whole[name])


def test_an_unknown_output_is_told_with_those_there_are(make_session: MakeSession) -> None:
    session = make_session(models.branches(), {"x": (3, 6)})
    with pytest.raises(InputError, match="no output 'w'") as caught:
        session.run({"x": rows(3, 6)}, ["w"])
    assert "y, z" in caught.value.fix
    for names in ("yz", "", list[str]()):
        with pytest.raises(InputError, match="output_names"):
            session.run({"x": rows(3, 6)}, names)


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, "missing input: x float32"),
        ({"X": rows(4)}, "no input 'X'"),
        ({"x": rows(4), "extra": rows(4)}, "no input 'extra'"),
        ({"x": rows(4).astype(np.float64)}, "dtype float64"),
        ({"x": rows(4).astype(">f4")}, "dtype >f4"),
        ({"x": rows(4, 9)}, r"shape \[4, 9\]"),
        ({"x": rows(4)[0]}, r"shape \[8\]"),
        (rows(1), "mapping"),
        ([rows(4)], "mapping"),
        (None, "mapping"),
    ],
)
def test_a_wrong_feed_is_an_input_error_and_hurts_nothing(
    make_session: MakeSession, feeds: Any, says: str
) -> None:
    model = models.dense()
    session = make_session(model, {"x": (4, 8)})
    with pytest.raises(InputError, match=says) as caught:
        session.run(feeds)
    assert caught.value.fix
    x = rows(4)
    close(tensor(session.run({"x": x})), models.dense_output(model, x))


def test_an_empty_batch_is_run(make_session: MakeSession) -> None:
    session = make_session(models.dense(), {"x": (4, 8)})
    outputs: Any = session.run({"x": rows(0)})
    assert outputs["y"].shape == (0, 8)


# --- what is no tensor of numbers ---------------------------------------------------------------


def test_text_goes_in_and_comes_out(make_session: MakeSession) -> None:
    session = make_session(
        models.parse("""
            g (string[N] t, string[N] u) => (string[N] joined, bool[N] same) {
                joined = StringConcat(t, u)
                same = Equal(t, u)
            }
        """, opset=20),
        {},
    )  # fmt: skip
    t = np.array(["river ", "mill"], dtype=object)
    outputs: Any = session.run({"t": t, "u": ["runs", "mill"]})
    assert outputs["joined"].dtype == object
    assert outputs["joined"].tolist() == ["river runs", "millmill"]
    assert outputs["same"].tolist() == [False, True]


def test_text_of_numbers_is_refused(make_session: MakeSession) -> None:
    session = make_session(models.parse("g (string[N] t) => (string[N] u) { u = Identity(t) }"), {})
    with pytest.raises(InputError, match="string"):
        session.run({"t": [1.5]})


def sequence_model() -> onnx.ModelProto:
    """A sequence and a tensor in; the sequence with one more, and the sum of all, out."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
    sequence = helper.make_sequence_type_proto(tensor)
    graph = helper.make_graph(
        [
            helper.make_node("SequenceInsert", ["s", "x"], ["longer"]),
            helper.make_node("ConcatFromSequence", ["longer"], ["joined"], axis=0),
        ],
        "sequences",
        [helper.make_value_info("s", sequence), helper.make_value_info("x", tensor)],
        [
            helper.make_value_info("longer", sequence),
            helper.make_tensor_value_info("joined", TensorProto.FLOAT, ["m"]),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model


def test_sequences_go_in_and_come_out_as_lists(make_session: MakeSession) -> None:
    session = make_session(sequence_model(), {})
    s, x = [rows(1, 3, seed=1)[0], rows(1, 2, seed=2)[0]], rows(1, 4, seed=3)[0]
    outputs: Any = session.run({"s": s, "x": x})
    assert isinstance(outputs["longer"], list)
    for found, given in zip(outputs["longer"], [*s, x], strict=True):
        np.testing.assert_array_equal(found, given)
        assert not np.shares_memory(found, given)
    np.testing.assert_array_equal(outputs["joined"], np.concatenate([*s, x]))


def test_a_tensor_beside_a_sequence_may_have_another_shape(make_session: MakeSession) -> None:
    session = make_session(sequence_model(), {"x": (4,)})
    s = [rows(1, 3)[0]]
    for length in (4, 2, 4, 7):
        x = rows(1, length)[0]
        outputs: Any = session.run({"s": s, "x": x})
        np.testing.assert_array_equal(outputs["joined"], np.concatenate([*s, x]))


def test_a_sequence_that_is_none_is_refused(make_session: MakeSession) -> None:
    session = make_session(sequence_model(), {})
    with pytest.raises(InputError, match="sequence"):
        session.run({"s": rows(1, 3), "x": rows(1, 3)[0]})


def optional_model() -> onnx.ModelProto:
    """``has`` tells whether the optional input holds something; ``o2`` is that input."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    optional = helper.make_optional_type_proto(tensor)
    graph = helper.make_graph(
        [
            helper.make_node("OptionalHasElement", ["o"], ["has"]),
            helper.make_node("Identity", ["o"], ["o2"]),
        ],
        "optionals",
        [helper.make_value_info("o", optional)],
        [
            helper.make_tensor_value_info("has", TensorProto.BOOL, []),
            helper.make_value_info("o2", optional),
        ],
    )
    opsets = [helper.make_opsetid("", 18)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model


def test_optionals_are_none_or_an_array(make_session: MakeSession) -> None:
    session = make_session(optional_model(), {})
    x = np.array([1.0, 2.0], np.float32)
    outputs: Any = session.run({"o": x})
    assert bool(outputs["has"])
    np.testing.assert_array_equal(outputs["o2"], x)
    for feeds in ({"o": None}, {}):
        empty: Any = session.run(feeds)
        assert not bool(empty["has"])
        assert empty["o2"] is None


def test_a_model_without_inputs_runs(make_session: MakeSession) -> None:
    session = make_session(
        models.parse("g () => (float[2] y) { y = Constant<value_floats = [1.5, -2.0]>() }")
    )
    assert np.asarray(session.run({})["y"]).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("double", np.float64), ("float16", np.float16), ("int8", np.int8), ("uint8", np.uint8),
        ("int32", np.int32), ("int64", np.int64), ("bool", np.bool_),
    ],
)  # fmt: skip
def test_dtypes_go_through(make_session: MakeSession, name: str, dtype: Any) -> None:
    session = make_session(
        models.parse(f"""
            g ({name}[N, 2] x) => ({name}[N, 4] y) {{ y = Concat<axis = 1>(x, x) }}
        """),
        {"x": (3, 2)},
    )
    for n in (3, 5):
        x = (np.random.default_rng(n).random((n, 2)) * 3).astype(dtype)
        y: Any = session.run({"x": x})["y"]
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.concatenate([x, x], axis=1))


@pytest.mark.parametrize("target", TARGETS)
def test_both_of_numpys_types_of_that_name_are_taken(
    make_session: MakeSession, target: str
) -> None:
    """``long`` and ``long long`` are two types in numpy, of the same name where they are alike."""
    session = make_session(
        models.parse("g (int64[2] x) => (int64[2] y) { y = Add(x, x) }"), target=target
    )
    for char in "lq":
        x = np.array([1, -2]).astype(char)
        if x.dtype == np.int64:
            assert tensor(session.run({"x": x})).tolist() == [2, -4]
            assert tensor(session.bind({"x": x}).run()).tolist() == [2, -4]


def test_an_initializer_may_be_overridden_only_if_it_is_an_input(
    make_session: MakeSession,
) -> None:
    """An initializer that is listed among the inputs is its default, and not asked for."""
    model = models.with_weights(
        models.parse("g (float[2] x, float[2] w) => (float[2] y) { y = Mul(x, w) }"),
        w=np.array([2.0, 3.0], np.float32),
    )
    session = make_session(model)
    x = np.array([1.0, 1.0], np.float32)
    assert np.asarray(session.run({"x": x})["y"]).tolist() == [2.0, 3.0]
