"""What keeps a run from being captured: whatever makes the host wait, or depends on its memory.

A captured graph repeats what was handed over to the device, with the same operands at the same
places. Values that went to the host, and whatever the host made of them, would stay what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_BY_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
_COPIES = ("_to_copy", "copy_", "copy")
_RANDOM = torch.Tag.nondeterministic_seeded


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at every operator that this thread hands over, on any device, and keeps the first
    ``reason`` why what is run can't be captured; empty if there is none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reason = ""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.reason:
            given, second = _tensors((args, kwargs)), _tensors(args[1:2])
            self.reason = _against(func, given, second, _tensors(result))
        return result


def _against(
    func: Any, given: list[torch.Tensor], second: list[torch.Tensor], made: list[torch.Tensor]
) -> str:
    """Why one operator can't be captured; empty if it can. ``second``: its second operand."""
    name = func._overloadpacket.__name__
    on_device = [tensor for tensor in given if tensor.device.type != "cpu"]
    if name.startswith("index"):  # tagged as if every index were a mask
        if any(tensor.dtype in (torch.bool, torch.uint8) for tensor in second):
            return f"{name} by a mask makes the host wait for its count"
    elif on_device and any(tag in func.tags for tag in _BY_VALUES):
        return f"{name} makes the host wait for values"
    if _RANDOM in func.tags and any(t.device.type != "cpu" for t in (*given, *made)):
        return f"{name} draws random numbers"
    if on_device and any(tensor.device.type == "cpu" for tensor in made):
        return f"{name} copies from {on_device[0].device.type} to cpu"
    # a number of the host's is an operand like any other, unless it is what is copied
    counted = [t for t in given if t.dim() or t.device.type != "cpu" or name in _COPIES]
    devices = {tensor.device for tensor in (*counted, *made)}
    if len(devices) > 1:
        return f"{name} copies between {' and '.join(sorted(d.type for d in devices))}"
    return ""


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [tensor for each in value for tensor in _tensors(each)]
    return []
