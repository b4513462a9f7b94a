"""Binding, running, and whose the memory is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dioe.testing.judging import host
from dioe.testing.models import floats, model, relu
from dioe.testing.subject import Subject, call, direct, run
from dioe.types import HostBuffer

pytestmark = pytest.mark.correctness


def test_bound_arrays_are_used_in_place(subject: Subject) -> None:
    """Results go into the bound array, and a changed feed is read anew."""
    request = subject.request(relu())
    x, y = floats(2, 4), np.full((2, 4), 9, np.float32)
    request.bind({"x": x}, {"y": y})
    request.run().wait()
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    assert request.outputs["y"] is y
    x[...] = floats(2, 4, seed=1)
    request.run().wait()
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_rebinding_one_name_keeps_the_others(subject: Subject) -> None:
    """Inputs and outputs bound before stay bound."""
    made = model("g (float[3] a, float[3] b) => (float[3] y) { y = Sub(a, b) }")
    request = subject.request(made)
    a, b, c, y = floats(3), floats(3, seed=1), floats(3, seed=2), np.empty(3, np.float32)
    request.bind({"a": a, "b": b}, {"y": y})
    request.run().wait()
    request.bind({"b": c})
    request.run().wait()
    np.testing.assert_array_equal(y, a - c)


def test_rebinding_other_arrays(subject: Subject) -> None:
    """The array bound last is written, the one before is left alone."""
    request = subject.request(relu())
    x, first, second = floats(2, 4), np.empty((2, 4), np.float32), np.empty((2, 4), np.float32)
    request.bind({"x": x}, {"y": first})
    request.run().wait()
    kept = first.copy()
    other = floats(2, 4, seed=1)
    request.bind({"x": other}, {"y": second})
    request.run().wait()
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(second, np.maximum(other, 0))


def test_own_outputs_stay_until_the_next_run(subject: Subject) -> None:
    """Binding anew doesn't touch the results of the run before."""
    request = subject.request(relu())
    x = floats(2, 4)
    found = run(request, {"x": x})["y"]
    request.bind({"x": floats(2, 4, seed=1)})
    np.testing.assert_array_equal(found, np.maximum(x, 0))


def test_requests_are_independent(subject: Subject) -> None:
    """Two requests of one executable have buffers of their own."""
    executable = subject.compile(relu())
    first, second = executable.request(), executable.request()
    x, z = floats(2, 4), floats(2, 4, seed=1)
    one = run(first, {"x": x})["y"]
    other = run(second, {"x": z})["y"]
    np.testing.assert_array_equal(one, np.maximum(x, 0))
    np.testing.assert_array_equal(other, np.maximum(z, 0))


def test_host_buffers_and_odd_arrays(subject: Subject) -> None:
    """Strided, read-only and wrapped arrays are read as what they are."""
    request: Any = subject.request(relu())
    x = floats(4, 8)[::2, ::2]
    read_only = floats(2, 4, seed=1)
    read_only.flags.writeable = False
    for value, array in ((x, x), (read_only, read_only), (HostBuffer(x.copy()), x)):
        found = run(request, {"x": value})["y"]
        np.testing.assert_array_equal(found, np.maximum(array, 0))
        if hasattr(request, "call"):
            (result,) = call(request, {"x": value}, ["y"])
            np.testing.assert_array_equal(result, np.maximum(array, 0))


def test_shapes_may_change_between_runs(subject: Subject) -> None:
    """Larger, smaller, and none at all."""
    request: Any = subject.request(relu("N"))
    for rows in (2, 5, 1, 0, 3):
        x = floats(rows, 4, seed=rows)
        np.testing.assert_array_equal(run(request, {"x": x})["y"], np.maximum(x, 0))
        if hasattr(request, "call"):
            (found,) = call(request, {"x": x}, ["y"])
            np.testing.assert_array_equal(found, np.maximum(x, 0))


@pytest.mark.parametrize("side", [8, 300])  # runtimes copy some sizes and not others
def test_call_of_small_and_large_tensors(subject: Subject, side: int) -> None:
    """Results of earlier calls stay; the caller may reuse its feed at once."""
    made = model(
        f"g (float[{side},{side}] x) => (float[{side},{side}] y, float[{side},{side}] z) {{"
        " y = Relu(x) z = Add(x, x) }"
    )
    request = subject.request(made)
    kept = []
    for seed in range(4):
        x = floats(side, side, seed=seed)
        names = ["y", "z"] if seed % 2 == 0 else ["z"]
        kept.append((x.copy(), names, call(request, {"x": x}, names)))
        x[...] = 0.5
    for x, names, values in kept:
        for name, value in zip(names, values, strict=True):
            np.testing.assert_array_equal(value, np.maximum(x, 0) if name == "y" else x + x)


def test_output_names_may_be_any_sequence(subject: Subject) -> None:
    """A tuple, an array of texts; outputs that are inputs among them."""
    given_on = model("g (float[2,4] x) => (float[2,4] y, float[2,4] x) { y = Relu(x) }")
    request = subject.request(given_on)
    x = floats(2, 4)
    sequences: list[Any] = [("x", "y"), np.array(["x", "y"])]
    for names in sequences:
        given, found = call(request, {"x": x}, names)
        np.testing.assert_array_equal(given, x)
        np.testing.assert_array_equal(found, np.maximum(x, 0))


def test_call_leaves_bindings(subject: Subject) -> None:
    """A call in between changes nothing of what is bound."""
    request = subject.request(relu())
    x, y = floats(2, 4), np.empty((2, 4), np.float32)
    request.bind({"x": x}, {"y": y})
    call(request, {"x": floats(2, 4, seed=1)}, ["y"])
    request.run().wait()
    np.testing.assert_array_equal(y, np.maximum(x, 0))


@pytest.mark.parametrize("seed", range(4))
def test_results_stay_however_callers_hold_them(subject: Subject, seed: int) -> None:
    """Results let go of at once, kept, kept as a view, as a buffer or through DLPack."""
    made = model(
        "g (float[128,128] x) => (float[128,128] y, float[128,128] z) { y = Relu(x) z = Add(y, y) }"
    )
    request = direct(subject.request(made))
    rng = np.random.default_rng(seed)
    held: list[tuple[Any, Any]] = []
    patience = 0
    for _ in range(300):
        x = rng.standard_normal((128, 128), np.float32)
        y, z = (host(value) for value in request.call({"x": x}, ["y", "z"]))
        expected = np.maximum(x, 0)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(z, 2 * expected)
        if patience:  # long enough for a backend to stop copying
            patience -= 1
        else:
            keep = str(rng.choice(["array", "view", "reshaped", "buffer", "dlpack", "written"]))
            held.append(_held(keep, y, z, expected))
            patience = int(rng.choice([0, 1, 8, 40]))
            del held[: -int(rng.integers(1, 12))]
        y = z = None
        for value, right in held:
            np.testing.assert_array_equal(np.asarray(value), right)


def _held(keep: str, y: Any, z: Any, expected: Any) -> tuple[Any, Any]:
    """What a caller keeps of its results, and what that has to stay."""
    if keep == "view":
        return y[3:9, ::2], expected[3:9, ::2]
    if keep == "reshaped":
        return z.reshape(-1)[:-1][1:], 2 * expected.reshape(-1)[1:-1]
    if keep == "buffer":
        return memoryview(y), expected
    if keep == "dlpack":
        return np.from_dlpack(y), expected
    if keep == "written":
        y[...] = -1.0
        return y, np.full_like(y, -1.0)
    return y, expected


def test_an_array_fed_again_and_again_is_read_as_it_is_now(subject: Subject) -> None:
    """Reading in place must not mean reading what was there before."""
    rows = 1 << 16
    request = subject.request(relu(rows))
    first, second = floats(rows, 4, seed=1), floats(rows, 4, seed=2)
    for array in (first, first, first, second, first, second, second, second):
        array[0] += 1
        (result,) = call(request, {"x": array}, ["y"])
        np.testing.assert_array_equal(result, np.maximum(array, 0))
    strided = floats(rows, 8, seed=3)[:, ::2]
    for _ in range(3):
        (result,) = call(request, {"x": strided}, ["y"])
        np.testing.assert_array_equal(result, np.maximum(strided, 0))
