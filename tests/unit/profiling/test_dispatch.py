"""What a run costs beside its ops."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dioe.profiling import time_dispatch
from dioe.types import OutOfMemory, Precision, Precisions, Resources, UnsupportedError
from dioe_null import NPU, NullBackend
from tests.toys.work import Clock, ModelledClock


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_neither_ops_nor_links_count(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.patch(monkeypatch)
    backend = NullBackend([replace(NPU, dispatch_us=1500.0)], ModelledClock(clock))
    context = backend.open("npu:0", Resources())
    assert time_dispatch(context, Precisions(precision)) == pytest.approx(1.5, rel=0.01)
    assert context.memory_info()["used_bytes"] == 0
    with pytest.raises(UnsupportedError):
        time_dispatch(context, Precisions(Precision.BF16))


def test_what_the_backend_raises() -> None:
    context = NullBackend([replace(NPU, memory_bytes=4)]).open("npu:0", Resources())
    with pytest.raises(OutOfMemory):
        time_dispatch(context, Precisions())
