"""What the host backends share."""

from __future__ import annotations

from dataclasses import fields

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.host_backend import (
    aligned_empty,
    check_array,
    check_host,
    check_options,
    contiguous,
    host_array,
    resolve_options,
    resource_rules,
    support_by_trial,
    tensor_specs,
)
from dioe.host_backend.options import fixed
from dioe.types import (
    Effect,
    HostBuffer,
    InputError,
    Resources,
    StageModel,
    TensorSpec,
    UnsupportedError,
)
from tests.backend.cases import cases, floats, model, small_network


@given(
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from([np.float32, np.int8, np.bool_, ml_dtypes.bfloat16, ml_dtypes.int4]),
)
def test_aligned_arrays(shape: list[int], dtype: type) -> None:
    array = aligned_empty(tuple(shape), np.dtype(dtype))
    assert array.shape == tuple(shape)
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert not array.size or array.ctypes.data % 64 == 0


def test_specs_of_inputs_and_outputs() -> None:
    by_name = {case.name: case.model for case in cases()}
    inputs, outputs = tensor_specs(by_name["sequence"])
    assert [s.kind for s in inputs] == ["sequence", "tensor"]
    assert inputs[0].dtype == np.float32
    assert inputs[1].shape == ()
    assert [s.kind for s in outputs] == ["tensor", "sequence"]
    assert tensor_specs(by_name["optional"])[0][0].kind == "optional"
    assert tensor_specs(by_name["identity-strings"])[0][0].dtype == object
    assert tensor_specs(by_name["empty"])[0][0].shape == ("N", 3)
    assert [s.name for s in tensor_specs(small_network())[0]] == ["x"]


def test_arrays_are_checked() -> None:
    spec = TensorSpec("x", np.dtype(np.float32), ("N", 4))
    check_array(floats(3, 4), spec)
    for wrong in (floats(3, 5), floats(4), floats(3, 4).astype(np.float16)):
        with pytest.raises(InputError, match="input 'x'"):
            check_array(wrong, spec)
    assert host_array(HostBuffer(floats(2, 4)), spec).shape == (2, 4)
    assert host_array(1.5, spec).dtype == np.float32
    with pytest.raises(InputError, match="NoneType"):
        host_array(None, spec)


def test_contiguous_keeps_scalars() -> None:
    scalar = np.array(3.0)
    assert contiguous(scalar) is scalar
    assert contiguous(floats(4, 4)[:, ::2]).flags.c_contiguous


def fail(_: object) -> None:
    raise UnsupportedError("no")


def test_trials() -> None:
    made = small_network()
    assert support_by_trial(made, lambda _: None, fail).whole
    nothing = support_by_trial(made, fail, lambda _: None)
    assert not nothing.supported
    assert "as a whole: no" in nothing.refused["conv"]
    named = support_by_trial(made, fail, lambda _: None, lambda _: ["relu"])
    assert dict(named.refused) == {"relu": "no"}
    assert set(support_by_trial(made, fail, fail).refused) == set(made.op_ids)


def test_equal_ops_are_tried_once() -> None:
    made = model("g (float[4] x) => (float[4] y) { a = Neg(x) b = Neg(a) c = Abs(b) y = Neg(c) }")
    tried: list[bytes] = []

    def whole(_: StageModel) -> None:
        raise UnsupportedError("no")

    support_by_trial(made, whole, tried.append)
    assert len(tried) == 2


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "cpu:12"])
def test_the_host_and_parts_of_it(device: str) -> None:
    check_host(device, "toy")


@pytest.mark.parametrize("device", ["gpu:0", "", "cpux", "CPU"])
def test_what_is_not_the_host(device: str) -> None:
    with pytest.raises(UnsupportedError, match=f"no device {device!r} here") as caught:
        check_host(device, "toy")
    assert (caught.value.place, caught.value.fix) == ("toy", "use cpu")


def test_options_of_resources() -> None:
    rules = resource_rules(
        precision=fixed(Effect.APPLIED, "p"),
        threads=fixed(Effect.APPLIED, "t"),
        streams=fixed(Effect.IGNORED),
        spin=fixed(Effect.IGNORED),
        memory_limit_bytes=fixed(Effect.APPROXIMATED),
    )
    assert {*rules} == {"precision"} | {field.name for field in fields(Resources)} - {"cores"}
    taken = {"precision": "bf16", "threads": 2, "streams": 1, "spin": False}
    answers = resolve_options(rules, taken | {"memory_limit_bytes": 1 << 20})
    assert [a.effect for a in answers.values()] == [
        Effect.APPLIED, Effect.APPLIED, Effect.IGNORED, Effect.IGNORED, Effect.APPROXIMATED,
    ]  # fmt: skip
    wrong = {"precision": "fp31", "threads": 0, "streams": True, "spin": 1}
    answers = resolve_options(rules, wrong | {"memory_limit_bytes": -1})
    assert {a.effect for a in answers.values()} == {Effect.REJECTED}
    assert answers["threads"].note == "0 is not a positive number"
    with pytest.raises(InputError, match="unknown option"):  # they are no options of compile
        check_options("toy", rules, {"threads": 2})
