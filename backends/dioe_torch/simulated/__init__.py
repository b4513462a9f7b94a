"""A stand-in for an accelerator: devices with memory, streams and events of their own, on the CPU.

For tests, and for trying out what a program does with a second device. ``load()`` builds a small
C++ extension of torch once a machine, renames torch's PrivateUse1 to ``mlu`` (once a process)
and returns ``torch.mlu``, which has the functions of ``torch.cuda`` and of Cambricon's
``torch_mlu`` that a program for inference uses::

    from dioe_torch.simulated import load, reason_unavailable

    mlu = load()
    x = torch.randn(4, 4, device="mlu:1")
    with mlu.hold(mlu.current_stream("mlu:1")):
        y = x.to("cpu", non_blocking=True)  # pending until the hold ends
    mlu.synchronize("mlu:1")
    print(mlu.copies())

What it is for is what a program has to get right on a real device: where its tensors are, what
its copies wait for, and how many bytes it moves. What it isn't for is time: kernels are those of
the CPU, with a copy of every operand, so a latency of it means nothing.
"""

from .build import BuildError, reason_unavailable
from .device import (
    DeviceProperties,
    Moved,
    SimulatedDevices,
    load,
)

__all__ = [
    "BuildError",
    "DeviceProperties",
    "Moved",
    "SimulatedDevices",
    "load",
    "reason_unavailable",
]
