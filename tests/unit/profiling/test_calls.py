"""Calls with buffers made beforehand: which outputs get one, and that a call waits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from dioe.graph import Model
from dioe.profiling import preset_outputs, waiting_call
from dioe.types import Executable, Precisions, Request, Resources, TensorSpec
from tests.toys import models
from tests.toys.backend import ToyBackend
from tests.toys.values import close, tensor

F32 = np.dtype(np.float32)


@pytest.mark.parametrize(
    ("spec", "preset"),
    [
        (TensorSpec("y", F32, (2, 3)), True),
        (TensorSpec("y", F32, ()), True),
        (TensorSpec("y", F32, ("N", 3)), False),
        (TensorSpec("y", F32, (None, 3)), False),
        (TensorSpec("y", F32, None), False),
        (TensorSpec("y", np.dtype(object), (2, 3)), False),
        (TensorSpec("y", F32, (2, 3), "sequence"), False),
    ],
)
def test_outputs_of_known_shape_get_a_buffer(spec: TensorSpec, preset: bool) -> None:
    made = preset_outputs(cast(Executable, SimpleNamespace(outputs=(spec,))))
    assert list(made) == (["y"] if preset else [])
    for value in made.values():
        assert isinstance(value, np.ndarray)
        assert (value.shape, value.dtype) == (spec.shape, F32)


def test_a_call_runs_into_the_buffers() -> None:
    context = ToyBackend().open("cpu", Resources())
    executable = context.compile(Model.load(models.relu()), Precisions(), {})
    request = executable.request()
    x = np.random.default_rng(3).standard_normal((1, 4), np.float32)
    buffers = preset_outputs(executable)
    request.bind({"x": x}, buffers)
    waiting_call(request)()
    close(tensor(buffers), np.maximum(x, 0))
    context.close()


def test_a_call_is_over_when_its_work_is() -> None:
    waited: list[float | None] = []
    event: Any = SimpleNamespace(wait=lambda timeout_ms=None: waited.append(timeout_ms))
    call = waiting_call(cast(Request, SimpleNamespace(run=lambda: event)))
    call()
    call()
    assert waited == [None, None]
