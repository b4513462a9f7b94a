"""Values in shared memory: everything comes back, and no description unfolds beyond its memory."""

from __future__ import annotations

import contextlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.registry.worker.values import DTYPES, MAX_DEPTH, Packer, Unpacker
from dioe.types import Array, BackendError, HostBuffer, InputError

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
TEXT = st.text(max_size=8).filter(lambda text: text.isascii() or text.isprintable())


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    dtype, shape = DTYPES[draw(st.sampled_from(sorted(DTYPES)))], draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return rng.integers(0, 2 if dtype.kind == "b" else 127, shape).astype(dtype)


@st.composite
def strings(draw: st.DrawFn) -> Array:
    shape = draw(SHAPES)
    found = np.empty(shape, object)
    found.ravel()[...] = [draw(TEXT) for _ in range(found.size)]
    for index in np.ndindex(shape):
        found[index] = draw(TEXT)
    return found


VALUES = st.recursive(
    st.none() | tensors() | strings(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


def travel(values: dict[str, Any]) -> dict[str, Any]:
    packer = Packer()
    described = {name: packer.add(value) for name, value in values.items()}
    memory = np.full(packer.nbytes, 0xAA, np.uint8)
    packer.write(memory)
    unpacker = Unpacker(lambda _: memory, budget=memory.size)
    return {name: unpacker.value(one) for name, one in described.items()}


def same(one: Any, other: Any) -> None:
    if isinstance(other, list):
        assert isinstance(one, list)
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif other is None:
        assert one is None
    else:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if other.dtype.hasobject:
            assert one.tolist() == other.tolist()
        else:
            assert one.tobytes() == other.tobytes()


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_values_come_back(values: dict[str, Any]) -> None:
    found = travel(values)
    assert list(found) == list(values)
    for name, value in values.items():
        same(found[name], value)


def test_odd_values() -> None:
    x = np.random.default_rng(1).standard_normal((4, 6), dtype=np.float32)
    found = travel(
        {
            "strided": x[::2, ::3],
            "transposed": x.T,
            "buffer": HostBuffer(x),
            "number": np.float32(2.5),
            "unicode": np.array(["a", "ü"]),
            "bytes": np.array([b"a", b"bc"]),
            "map": {"a": 1.5, "b": -2.0},
            "numbered": {3: "x", 4: "y"},
            "no map": {},
            "list of maps": [{"a": 1}],
        }
    )
    np.testing.assert_array_equal(found["strided"], x[::2, ::3])
    np.testing.assert_array_equal(found["transposed"], x.T)
    np.testing.assert_array_equal(found["buffer"], x)
    assert found["number"].shape == ()
    assert found["unicode"].tolist() == ["a", "ü"]
    assert found["bytes"].tolist() == ["a", "bc"]
    assert found["map"] == {"a": 1.5, "b": -2.0}
    assert found["numbered"] == {3: "x", 4: "y"}
    assert found["no map"] == {}
    assert found["list of maps"] == [{"a": 1}]


def test_what_cannot_travel() -> None:
    for value in (np.array(["2020-01-01"], "M8[D]"), np.zeros(2, [("a", "i4")])):
        with pytest.raises(InputError, match="can't be given to a worker"):
            Packer().add(value)
    with pytest.raises(InputError, match="can't travel"):
        Packer().add(np.array(["\ud800"], object))


def test_arrays_in_shared_memory_are_described_where_they_are() -> None:
    x = np.ones(3, ml_dtypes.bfloat16)
    packer = Packer(lambda array: (7, 64) if array is x else None)
    assert packer.add(x) == {
        "kind": "tensor", "dtype": "bfloat16", "shape": [3], "segment": 7, "offset": 64,
    }  # fmt: skip
    assert packer.nbytes == 0


BAD: dict[str, Any] = {
    "nothing": None,
    "no kind": {},
    "another kind": {"kind": "code"},
    "no dtype": {"kind": "tensor", "shape": [1], "offset": 0},
    "object": {"kind": "tensor", "dtype": "object", "shape": [1], "offset": 0},
    "a dtype of numpy's": {"kind": "tensor", "dtype": "O8", "shape": [1], "offset": 0},
    "no shape": {"kind": "tensor", "dtype": "int8", "offset": 0},
    "negative": {"kind": "tensor", "dtype": "int8", "shape": [-1], "offset": 0},
    "boolean": {"kind": "tensor", "dtype": "int8", "shape": [True], "offset": 0},
    "fraction": {"kind": "tensor", "dtype": "int8", "shape": [1.0], "offset": 0},
    "rank": {"kind": "tensor", "dtype": "int8", "shape": [1] * 99, "offset": 0},
    "huge": {"kind": "tensor", "dtype": "int8", "shape": [2**62, 2**62], "offset": 0},
    "huge and empty": {"kind": "tensor", "dtype": "int8", "shape": [0, 2**63], "offset": 0},
    "no offset": {"kind": "tensor", "dtype": "int8", "shape": [1]},
    "behind": {"kind": "tensor", "dtype": "int8", "shape": [2], "offset": 255},
    "before": {"kind": "tensor", "dtype": "int8", "shape": [2], "offset": -1},
    "elsewhere": {"kind": "tensor", "dtype": "int8", "shape": [2], "offset": 0, "segment": "x"},
    "text outside": {"kind": "strings", "shape": [1], "offset": 0, "text": 8, "nbytes": 999},
    "lengths outside": {"kind": "strings", "shape": [99], "offset": 0, "text": 8, "nbytes": 4},
    "lengths of others": {"kind": "strings", "shape": [2], "offset": 0, "text": 8, "nbytes": 4},
    "no items": {"kind": "sequence", "items": 3},
    "no keys": {"kind": "map", "keys": {"kind": "none"}, "values": {"kind": "none"}},
}


@pytest.mark.parametrize("described", BAD.values(), ids=BAD.keys())
def test_descriptions_that_are_none(described: Any) -> None:
    memory = np.full(256, 0xFF, np.uint8)
    with pytest.raises(BackendError, match="can't be understood"):
        Unpacker(lambda _: memory, budget=memory.size).value(described)


def test_nothing_unfolds_into_more_than_its_memory() -> None:
    memory = np.zeros(256, np.uint8)
    one = {"kind": "tensor", "dtype": "int8", "shape": [200], "offset": 0}
    with pytest.raises(BackendError, match="overlap"):
        Unpacker(lambda _: memory, budget=256).value({"kind": "sequence", "items": [one] * 2})
    deep: dict[str, Any] = {"kind": "none"}
    for _ in range(MAX_DEPTH + 1):
        deep = {"kind": "sequence", "items": [deep]}
    with pytest.raises(BackendError, match="not described"):
        Unpacker(lambda _: memory).value(deep)


def test_strings_that_are_no_text() -> None:
    memory = np.array([2, 0, 0, 0, 0xFF, 0xFE], np.uint8)
    described = {"kind": "strings", "shape": [1], "offset": 0, "text": 4, "nbytes": 2}
    with pytest.raises(BackendError, match="no UTF-8"):
        Unpacker(lambda _: memory).value(described)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats()
    | st.sampled_from(["tensor", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "dtype", "shape", "offset", "text", "nbytes", "items"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(["tensor", "strings", "sequence", "map", "none"]), JUNK, JUNK, JUNK, JUNK)
def test_junk_is_a_value_or_a_backend_error(
    kind: str, shape: Any, offset: Any, nbytes: Any, items: Any
) -> None:
    memory = np.zeros(256, np.uint8)
    described = {
        "kind": kind, "dtype": "int16", "shape": shape, "offset": offset, "text": offset,
        "nbytes": nbytes, "items": items, "keys": items, "values": items,
    }  # fmt: skip
    with contextlib.suppress(BackendError):  # any other error fails the test
        Unpacker(lambda _: memory, budget=256).value(described)
