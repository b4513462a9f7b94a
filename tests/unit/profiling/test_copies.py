"""What copies into a device's memory and out of it cost: a line by their bytes."""

from __future__ import annotations

import math
import time

import pytest

from dioe.profiling import time_copies
from dioe.types import Buffer, Event, HostBuffer, OutOfMemory, Resources, TensorSpec
from tests.toys.backend import ToyBackend
from tests.toys.device import DeviceToyBackend, DeviceToyContext


class Slow(DeviceToyContext):
    """1 ms a copy into the memory and 2 ms out of it, and as many more for each MiB."""

    def copy(self, src: Buffer, dst: Buffer) -> Event:
        nbytes = 4 * dst.shape[0]
        time.sleep((1 if isinstance(src, HostBuffer) else 2) * (1e-3 + nbytes / 2**20 * 1e-3))
        return super().copy(src, dst)


def test_a_line_for_each_way() -> None:
    costs = time_copies(Slow(DeviceToyBackend(), "gpu:0", Resources()))
    assert costs is not None
    for factor, found in ((1, costs.to_ms), (2, costs.from_ms)):
        assert found(0) == pytest.approx(factor, rel=0.3)
        assert found(4 * 2**20) == pytest.approx(5 * factor, rel=0.5)
    assert costs.to_ms_per_byte < costs.from_ms_per_byte


def test_nothing_is_copied_where_the_host_addresses_the_memory() -> None:
    assert time_copies(ToyBackend().open("cpu", Resources())) is None


def test_a_memory_without_room_for_large_buffers() -> None:
    class Small(Slow):
        def alloc(self, spec: TensorSpec) -> Buffer:
            assert spec.shape is not None
            if math.prod(int(d or 0) for d in spec.shape) > 2**19:
                raise OutOfMemory("too large")
            return super().alloc(spec)

    costs = time_copies(Small(DeviceToyBackend(), "gpu:0", Resources()))
    assert costs is not None
    assert costs.to_ms(0) == pytest.approx(1, rel=0.3)
    assert costs.to_ms(4 * 2**20) == pytest.approx(5, rel=0.5)


def test_what_the_backend_raises() -> None:
    class Full(DeviceToyContext):
        def alloc(self, spec: TensorSpec) -> Buffer:
            raise OutOfMemory("full")

    with pytest.raises(OutOfMemory):
        time_copies(Full(DeviceToyBackend(), "gpu:0", Resources()))
