"""float32 that is float32 on NVIDIA, where torch would compute convolutions in TF32 by itself.

TF32 keeps 10 bits of a mantissa: errors of 1e-3, where a plan's fp32 means what the model says. The
settings are the process's, and others in it use torch too: they are changed while DIOE computes and
then put back as they were.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

IEEE = "ieee"


def _knobs() -> list[Any]:
    """What has a ``fp32_precision`` of its own (from torch 2.9 on)."""
    if not hasattr(torch.backends.cudnn, "conv"):
        return []
    return [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]


class _Settings:
    """The settings while at least one holds them off; the last puts them back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._put_back: list[Callable[[], None]] = []

    def hold(self) -> None:
        with self._lock:
            if not self._holders:
                self._put_back = _switch_off()
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                for action in self._put_back:
                    action()


def _switch_off() -> list[Callable[[], None]]:
    """Both of torch's ways to say it, since it refuses to compute where they disagree: first the
    older one, which sets the newer one too, then that where it still says otherwise."""
    actions: list[Callable[[], None]] = []
    before = [(knob, knob.fp32_precision) for knob in _knobs()]
    owners: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    for owner in owners:
        try:
            allowed = owner.allow_tf32
        except RuntimeError:  # set by the newer way only
            allowed = None
        owner.allow_tf32 = False
        if allowed:
            actions.append(lambda owner=owner: setattr(owner, "allow_tf32", True))  # type: ignore[misc]
    for knob, found in before:
        if knob.fp32_precision == "tf32":
            knob.fp32_precision = IEEE
        actions.append(lambda knob=knob, found=found: setattr(knob, "fp32_precision", found))  # type: ignore[misc]
    return actions


_settings = _Settings()


@contextlib.contextmanager
def full_fp32(device: torch.device) -> Iterator[None]:
    """Compute float32 in full on an NVIDIA device while this lasts; nothing on other devices."""
    if device.type != "cuda":
        yield
        return
    _settings.hold()
    try:
        yield
    finally:
        _settings.release()
