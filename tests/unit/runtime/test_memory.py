"""Plans over devices with memories of their own: what is copied, what isn't, and how it counts."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from dioe.graph import Model
from dioe.runtime import Runtime, Session, TransferReport
from dioe.types import Array
from tests.toys import models
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.device import DeviceToyBackend
from tests.toys.stages import staged_plan

FOUR = """
    g (float[8, 4] x) => (float[8, 4] y) {
        a = Relu(x)
        b = Tanh(a)
        c = Exp(b)
        y = Neg(c)
    }
"""
BYTES = 8 * 4 * 4


def device_runtime() -> tuple[Runtime, DeviceToyBackend]:
    device = DeviceToyBackend()
    return Runtime(registry_of(ToyBackend(), device, DeviceToyBackend("other", "npu:0"))), device


def x_of(seed: int, rows: int = 8) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, 4)).astype(np.float32)


def session_of(text: str, *places: str) -> tuple[Session, DeviceToyBackend]:
    """One op a stage."""
    runtime, device = device_runtime()
    model = Model.load(models.parse(text))
    parts = [(place, [op]) for place, op in zip(places, model.op_ids, strict=True)]
    return Session(model, [staged_plan(model, parts)], runtime=runtime), device


def ways(session: Session) -> dict[tuple[str, str, str], tuple[int, int]]:
    return {(t.value, t.source, t.destination): (t.nbytes, t.count) for t in session.transfers}


def test_only_what_crosses_is_copied_and_counted() -> None:
    session, device = session_of(FOUR, "gpu:0/devtoy", "gpu:0/devtoy", "toy", "gpu:0/devtoy")
    with session:
        for seed in range(5):
            x = x_of(seed)
            result: Any = session.run({"x": x})["y"]
            np.testing.assert_allclose(result, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-6)
        assert ways(session) == {
            ("x", "cpu", "gpu:0"): (BYTES, 5),
            ("b", "gpu:0", "cpu"): (BYTES, 5),
            ("c", "cpu", "gpu:0"): (BYTES, 5),
            ("y", "gpu:0", "cpu"): (BYTES, 5),
        }
        assert sum(t.nbytes * t.count for t in session.transfers) == sum(
            nbytes for _, _, nbytes in device.copied
        )
        assert all(t.total_ms > 0 for t in session.transfers)


def test_one_device_to_another_goes_over_the_host() -> None:
    session, _ = session_of(FOUR, "gpu:0/devtoy", "npu:0/other", "npu:0/other", "gpu:0/devtoy")
    with session:
        x = x_of(0)
        result: Any = session.run({"x": x})["y"]
        np.testing.assert_allclose(result, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-6)
        assert set(ways(session)) == {
            ("x", "cpu", "gpu:0"),
            ("a", "gpu:0", "cpu"),
            ("a", "cpu", "npu:0"),
            ("c", "npu:0", "cpu"),
            ("c", "cpu", "gpu:0"),
            ("y", "gpu:0", "cpu"),
        }


def test_a_value_that_several_stages_read_is_copied_once() -> None:
    text = """
        g (float[8, 4] x) => (float[8, 4] y, float[8, 4] z) {
            a = Relu(x)
            y = Tanh(a)
            z = Exp(a)
        }
    """
    session, _ = session_of(text, "toy", "gpu:0/devtoy", "gpu:0/devtoy")
    with session:
        x = x_of(0)
        found: Any = session.run({"x": x})
        np.testing.assert_allclose(found["y"], np.tanh(np.maximum(x, 0)), rtol=1e-6)
        np.testing.assert_allclose(found["z"], np.exp(np.maximum(x, 0)), rtol=1e-6)
        assert ways(session)["a", "cpu", "gpu:0"] == (BYTES, 1)


def test_open_shapes_are_counted_by_size() -> None:
    session, _ = session_of(
        FOUR.replace("8,", "N,"), "gpu:0/devtoy", "toy", "gpu:0/devtoy", "npu:0/other"
    )
    with session:
        for rows in (8, 3, 8, 5):
            x = x_of(rows, rows)
            result: Any = session.run({"x": x})["y"]
            np.testing.assert_allclose(result, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-6)
        counted = {(t.value, t.destination, t.nbytes): t.count for t in session.transfers}
        for value, destination in (("x", "gpu:0"), ("a", "cpu"), ("b", "gpu:0"), ("y", "cpu")):
            sizes = {rows: counted[value, destination, rows * 16] for rows in (8, 3, 5)}
            assert sizes == {8: 2, 3: 1, 5: 1}, value


def test_bound_outputs_of_open_shape_may_change_theirs() -> None:
    runtime, _ = device_runtime()
    model = Model.load(models.parse(FOUR.replace("8,", "N,")))
    plan = staged_plan(model, [("gpu:0/devtoy", model.op_ids)])
    with Session(model, [plan], runtime=runtime) as session:
        for rows in (8, 3):
            x, target = x_of(rows, rows), np.zeros((rows, 4), np.float32)
            bound = session.bind({"x": x}, {"y": target})
            for _ in range(2):
                bound.run()
                np.testing.assert_allclose(target, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-6)
        request = session._hot.loaded.request()
        for rows in (8, 3, 8):
            x, target = x_of(rows, rows), np.zeros((rows, 4), np.float32)
            request.bind({"x": x}, {"y": target})
            request.run()
            np.testing.assert_allclose(target, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-6)


def test_a_whole_model_on_a_device() -> None:
    session, device = session_of(FOUR, *["gpu:0/devtoy"] * 4)
    runtime, _ = device_runtime()
    model = Model.load(models.parse(FOUR))
    plan = staged_plan(model, [("gpu:0/devtoy", model.op_ids)])
    session.close()
    with Session(model, [plan], runtime=runtime) as whole:
        x = x_of(1)
        result: Any = whole.run({"x": x})["y"]
        np.testing.assert_allclose(result, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-6)
        assert ways(whole) == {("x", "cpu", "gpu:0"): (BYTES, 1), ("y", "gpu:0", "cpu"): (BYTES, 1)}
        target = np.zeros((8, 4), np.float32)
        bound = whole.bind({"x": x}, {"y": target})
        for seed in range(3):
            x[...] = x_of(seed)
            assert bound.run()["y"] is target
            np.testing.assert_allclose(target, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-6)
    assert device.count("close context") <= 1


def test_threads_lose_no_count() -> None:
    session, _ = session_of(FOUR, "gpu:0/devtoy", "toy", "toy", "gpu:0/devtoy")
    wrong: list[int] = []

    def work(number: int) -> None:
        for seed in range(20):
            x = x_of(100 * number + seed)
            result: Any = session.run({"x": x})["y"]
            if not np.allclose(result, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-5):
                wrong.append(seed)

    with session:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert {count for _, count in ways(session).values()} == {80}


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_layout_are_fed(order: Any) -> None:
    session, _ = session_of(FOUR, *["gpu:0/devtoy"] * 4)
    with session:
        x = np.array(x_of(3), order=order)
        for _ in range(2):
            result: Any = session.run({"x": x})["y"]
            np.testing.assert_allclose(result, -np.exp(np.tanh(np.maximum(x, 0))), rtol=1e-6)
            x *= 2  # in place: the next run must see it


def test_reports_have_means() -> None:
    assert TransferReport("x", "cpu", "gpu:0", 10, 4, 2.0).mean_ms == 0.5
    assert TransferReport("x", "cpu", "gpu:0", 10, 0, 0.0).mean_ms == 0.0


@pytest.mark.parametrize("first", ["gpu:0/devtoy", "toy"])
def test_scalars_stay_scalars_on_their_way(first: str) -> None:
    text = FOUR.replace("float[8, 4]", "float")
    session, _ = session_of(text, first, "toy", "gpu:0/devtoy", "toy")
    with session:
        x = np.array(0.5, np.float32)
        result: Any = session.run({"x": x})["y"]
        assert result.shape == ()
        np.testing.assert_allclose(result, -np.exp(np.tanh(0.5)), rtol=1e-6)
        assert {t.nbytes for t in session.transfers} == {4}
