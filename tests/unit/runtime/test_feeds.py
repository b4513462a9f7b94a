"""What a feed may be, and what a wrong one gets."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dioe.runtime.feeds import check_feeds, describe
from dioe.types import DONE, BackendError, HostBuffer, InputError, TensorSpec

F32 = np.dtype(np.float32)
I64 = np.dtype(np.int64)
TEXT = np.dtype(object)


def spec(name: str = "x", dtype: Any = F32, shape: Any = ("N", 3), kind: str = "tensor") -> Any:
    return TensorSpec(name, np.dtype(dtype), shape, kind)


def checked(value: Any, **wanted: Any) -> Any:
    return check_feeds({"x": value}, [spec(**wanted)])["x"]


def refusal(feeds: Any, *specs: TensorSpec) -> InputError:
    with pytest.raises(InputError) as caught:
        check_feeds(feeds, specs)
    return caught.value


def test_an_array_that_fits_is_passed_on_as_it_is() -> None:
    array = np.random.default_rng(0).random((2, 3), np.float32)
    assert checked(array) is array


def test_a_view_that_is_not_contiguous_is_passed_on() -> None:
    array = np.random.default_rng(0).random((3, 2), np.float32).T
    assert checked(array) is array


def test_a_host_buffer_is_its_array() -> None:
    buffer = HostBuffer(np.ones((2, 3), np.float32))
    assert checked(buffer) is buffer.array


class DeviceBuffer:
    """A buffer in memory that the host can't address."""

    device = "gpu:0"
    dtype = F32
    shape = (2, 3)
    strides = owner = None
    ready = DONE

    def numpy(self) -> Any:
        raise BackendError("not in host memory")


def test_a_device_buffer_is_passed_on_and_checked() -> None:
    buffer = DeviceBuffer()
    assert checked(buffer) is buffer
    assert "float32" in refusal({"x": buffer}, spec(dtype=I64)).cause
    assert "[2, 3]" in refusal({"x": buffer}, spec(shape=(2, 4))).cause


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([[1, 2, 3]], np.float32),
        ([[0.1, 0.2, 0.3]], np.float32),
        (((True, False, True),), np.bool_),
        ([[1, 0, 1]], np.bool_),
        ([[1.0, 2.0, 3.0]], np.int64),
        ([[1, 2, 255]], np.uint8),
        ([[0.5, 1.5, float("inf")]], np.float16),
        ([[0.5, 1.5, -2.0]], ml_dtypes.bfloat16),
        ([[1, 2, -7]], ml_dtypes.int4),
    ],
)
def test_python_numbers_become_arrays_of_the_inputs_dtype(value: Any, dtype: Any) -> None:
    array = checked(value, dtype=dtype)
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_allclose(
        array.astype(np.float64), np.asarray(value, dtype=np.float64), rtol=5e-3
    )


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([[1.5, 2.0, 3.0]], np.int64),
        ([[1, 2, 256]], np.uint8),
        ([[1, 2, -1]], np.uint8),
        ([[1, 2, 8]], ml_dtypes.int4),
        ([[1.5, 2, 3]], ml_dtypes.int4),
        ([[1e6, 0, 0]], ml_dtypes.float8_e4m3fn),
        ([[float("nan"), 1.0, 2.0]], np.int64),
        ([[2, 0, 1]], np.bool_),
        ([[1e300, 0.0, 0.0]], np.float32),
        ([[1e6, 0.0, 0.0]], np.float16),
        ([[1j, 0, 0]], np.float32),
        ([["1", "2", "3"]], np.float32),
        ([["a", "b", "c"]], np.float32),
        ([[None, 1.0, 2.0]], np.float32),
        ([[2**70, 1, 2]], np.int64),
        ({"a": 1}, np.float32),
        ({1, 2, 3}, np.float32),
        (None, np.float32),
        (object(), np.float32),
    ],
)
def test_what_would_lose_something_is_refused(value: Any, dtype: Any) -> None:
    error = refusal({"x": value}, spec(dtype=dtype))
    assert "'x'" in error.cause
    assert error.fix


def test_ragged_lists_are_refused() -> None:
    assert "'x'" in refusal({"x": [[1.0, 2.0], [1.0]]}, spec()).cause


def test_numpy_scalars_keep_their_dtype() -> None:
    assert checked(np.float32(2.5), shape=()).dtype == F32
    error = refusal({"x": np.float64(2.5)}, spec(shape=()))
    assert "float64" in error.cause
    assert "float32" in error.fix


def test_python_scalars_feed_inputs_of_rank_0() -> None:
    array = checked(16000, dtype=I64, shape=())
    assert array.dtype == I64
    assert array.shape == ()


def test_torch_tensors_are_taken_without_a_copy() -> None:
    tensor = torch.rand(2, 3)
    array = checked(tensor)
    assert array.dtype == F32
    assert np.shares_memory(array, tensor.numpy())


def test_torch_tensors_of_another_dtype_are_refused() -> None:
    assert "float64" in refusal({"x": torch.rand(2, 3, dtype=torch.float64)}, spec()).cause


def test_torch_tensors_that_numpy_cant_read_are_refused() -> None:
    error = refusal({"x": torch.rand(2, 3, requires_grad=True)}, spec())
    assert "'x'" in error.cause
    assert "grad" in error.cause


@pytest.mark.parametrize(
    "value",
    [
        ["one", "two"],
        np.array(["one", "two"]),
        np.array(["one", "two"], dtype=object),
    ],
)
def test_text_becomes_an_array_of_objects(value: Any) -> None:
    array = checked(value, dtype=TEXT, shape=(None,))
    assert array.dtype == TEXT
    assert array.tolist() == ["one", "two"]


def test_numbers_are_no_text() -> None:
    assert "string" in str(refusal({"x": [1, 2]}, spec(dtype=TEXT, shape=(None,))))
    assert "string" in str(refusal({"x": np.array([1, 2])}, spec(dtype=TEXT, shape=(None,))))


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    error = refusal({"imput": np.ones((2, 3), np.float32)}, spec("input"), spec("mask"))
    assert "'imput'" in error.cause
    assert "did you mean 'input'" in error.fix
    assert "mask float32[N,3]" in error.fix


def test_a_missing_input_is_named_with_its_dtype_and_shape() -> None:
    error = refusal({}, spec("x", shape=(1, None)))
    assert "x float32[1,?]" in error.cause


def test_an_optional_input_may_be_left_out_or_none() -> None:
    optional = spec("o", kind="optional")
    assert check_feeds({}, [optional]) == {"o": None}
    assert check_feeds({"o": None}, [optional]) == {"o": None}


def test_sequences_have_to_be_lists() -> None:
    sequence = spec("s", kind="sequence", shape=None)
    items = [np.ones(3, np.float32)]
    assert check_feeds({"s": items}, [sequence])["s"] is items
    assert "sequence" in refusal({"s": np.ones(3, np.float32)}, sequence).cause
    assert "sequence" in refusal({"s": "abc"}, sequence).cause


def test_another_dtype_says_how_to_convert() -> None:
    error = refusal({"x": np.ones((2, 3))}, spec())
    assert "float64" in error.cause
    assert "float32" in error.cause
    assert "astype('float32')" in error.fix


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 1), ()])
def test_another_shape_tells_both(shape: tuple[int, ...]) -> None:
    error = refusal({"x": np.ones(shape, np.float32)}, spec())
    assert str(list(shape)) in error.cause
    assert "x float32[N,3]" in error.cause


def test_a_symbol_has_one_size_in_all_inputs() -> None:
    specs = [spec("a", shape=("N", 2)), spec("b", shape=("N", None))]
    a, b = np.ones((4, 2), np.float32), np.ones((4, 9), np.float32)
    assert list(check_feeds({"a": a, "b": b}, specs)) == ["a", "b"]
    error = refusal({"a": a, "b": b[:3]}, *specs)
    assert "N = 3" in error.cause
    assert "4" in error.cause


def test_an_unknown_rank_takes_any_shape() -> None:
    for shape in ((), (3,), (1, 2, 3)):
        assert checked(np.ones(shape, np.float32), shape=None).shape == shape


@pytest.mark.parametrize("feeds", [np.ones((2, 3), np.float32), [1.0], None, 3])
def test_a_feed_has_to_be_a_mapping(feeds: Any) -> None:
    error = refusal(feeds, spec())
    assert "mapping" in error.cause
    assert "x float32[N,3]" in error.fix


def test_describe_shows_what_is_wanted() -> None:
    assert describe(spec("x", shape=(1, "N", None))) == "x float32[1,N,?]"
    assert describe(spec("x", shape=None)) == "x float32[*]"
    assert describe(spec("t", dtype=TEXT, shape=(2,))) == "t string[2]"
    assert describe(spec("s", kind="sequence")) == "s sequence"


@given(
    shape=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    declared=st.lists(st.one_of(st.integers(0, 4), st.none()), max_size=4).map(tuple),
)
def test_a_shape_is_taken_exactly_if_it_fits(
    shape: tuple[int, ...], declared: tuple[int | None, ...]
) -> None:
    array = np.ones(shape, np.float32)
    fits = len(shape) == len(declared) and all(
        d is None or d == s for d, s in zip(declared, shape, strict=True)
    )
    if fits:
        assert checked(array, shape=declared) is array
    else:
        refusal({"x": array}, spec(shape=declared))
