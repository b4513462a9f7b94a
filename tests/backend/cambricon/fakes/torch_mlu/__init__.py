"""A strict fake of Cambricon's torch_mlu: what was seen of ``torch.mlu``, on the simulated device.

Importing it gives torch an ``mlu`` device (``dioe_torch.simulated``: tensors of its own, computed
on the CPU) and sets ``torch.mlu``, which has the functions of the real one that DIOE uses and no
others. Each says where it was seen (``SEEN``); an unknown one raises.
"""

from __future__ import annotations

import json
import os
from typing import Any

import torch

from dioe_torch.simulated import load

__dioe_known_as__ = "contract"
"""What the worker looks for: no figure of this package is one of a card."""

_HOME = "github.com/Cambricon/torch_mlu: torch_mlu/mlu/"
SEEN = {
    "is_available": _HOME + "__init__.py",
    "device_count": _HOME + "__init__.py",
    "set_device": _HOME + "__init__.py",
    "synchronize": _HOME + "__init__.py",
    "get_device_name": _HOME + "__init__.py",
    "get_device_capability": _HOME + "__init__.py",
    "mem_get_info": _HOME + "memory.py",
}

NAME, CAPABILITY = "MLU370", (3, 0)
"""As a card without bf16 says of itself."""

_CALLS = os.environ.get("DIOE_FAKE_CALLS")
_CARDS = int(os.environ.get("DIOE_FAKE_CARDS", "2"))
_simulated = load("mlu", 2)


def _record(call: str, args: list[Any]) -> None:
    if _CALLS:
        with open(_CALLS, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"call": call, "args": args}) + "\n")


def _copies() -> dict[str, dict[str, tuple[int, int]]]:
    """What the simulated devices counted by now. No function of the real ``torch.mlu``: only the
    record of the calls has it."""
    return {
        purpose: {way: (moved.count, moved.bytes) for way, moved in ways.items()}
        for purpose, ways in _simulated.copies().items()
    }


class _Mlu:
    """``torch.mlu``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # torch's own business with a device module
            return getattr(_simulated, name)
        if name not in SEEN:
            raise AttributeError(f"torch.mlu has no {name!r} that was seen anywhere")

        def call(*args: Any) -> Any:
            _record(f"mlu.{name}", list(args))
            if name == "mem_get_info":
                _record("copies", [_copies()])
            if name == "device_count":
                return _CARDS
            if name == "is_available":
                return _CARDS > 0
            if name == "get_device_name":
                return NAME
            if name == "get_device_capability":
                return CAPABILITY
            return getattr(_simulated, name)(*args)

        return call


setattr(torch, "mlu", _Mlu())  # noqa: B010 - torch's types know of no such module
