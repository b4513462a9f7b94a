"""Programs compiled by Inductor: fused kernels in C++ on the CPU, in Triton on GPUs.

A program is captured as one graph of torch operators at its bound shapes and compiled with its
weights as constants, so that they are packed once. What can't be captured whole is refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import sysconfig
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from dioe.host_backend import tensor_specs
from dioe.types import (
    Context,
    Precision,
    Resources,
    StageModel,
    Support,
    TensorSpec,
)
from dioe_torch.backend import TorchBackend
from dioe_torch.devices import TorchDevice

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

MAX_REMEMBERED = 64
"""Models whose ops that can't be captured are remembered."""

OPEN_SHAPES = "Inductor compiles for bound shapes of tensors"

_compiling = threading.RLock()


def lacks(native: str) -> str:
    """Why Inductor can't compile for a torch device; empty if it can."""
    kind = native.partition(":")[0]
    if kind == "cpu":
        compiler = os.environ.get("CXX", "g++ clang++").split()
        if not any(shutil.which(name) for name in compiler):
            return "Inductor needs a C++ compiler, and there is neither g++ nor clang++"
        header = Path(sysconfig.get_path("include")) / "Python.h"
        return "" if header.is_file() else f"Inductor needs Python's headers ({header})"
    if kind in ("cuda", "xpu"):
        from importlib.util import find_spec

        return "" if find_spec("triton") else "Inductor needs Triton (pip install triton)"
    return f"Inductor has no kernels for {kind}"


class InductorBackend(TorchBackend):
    """Torch through Inductor: whole graphs, fused; on the CPU and on GPUs that Triton knows."""

    name = "torch.inductor"
    inductor = True

    def __init__(self) -> None:
        self._blamed: dict[tuple[str, tuple[TensorSpec, ...]], dict[str, str]] = {}

    def found(self) -> list[TorchDevice]:
        """Torch's devices that there is a compiler for; the CPU as absent where there is none."""
        from dataclasses import replace

        from dioe.types import DeviceState

        found = []
        for each in super().found():
            reason = each.info.reason or lacks(each.native)
            if not reason:
                found.append(replace(each, info=replace(each.info, details={"compile_s": 30})))
            elif each.native == "cpu":
                info = replace(each.info, state=DeviceState.ABSENT, reason=reason)
                found.append(replace(each, info=info))
        return found

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """By the table of lowerings, then by capturing the whole: an op that stops that is
        refused, all are where no single one is to blame."""
        answer = super().query(model, device, precision)
        if answer.refused:
            return answer
        from dioe_torch.capture import blamed

        inputs, _ = tensor_specs(model)
        key = (model.sha256, inputs)
        refused = self._blamed.get(key)
        if refused is None:  # takes seconds for a large model, and is the same in all precisions
            while len(self._blamed) >= MAX_REMEMBERED:
                self._blamed.pop(next(iter(self._blamed)), None)
            refused = self._blamed[key] = blamed(model)
        return Support(answer.supported - refused.keys(), refused)

    def open(self, device: str, resources: Resources) -> Context:
        """A context; raises UnsupportedError with the reason where there is no such device."""
        from dioe_torch.capture import InductorContext

        return InductorContext(self._device(device), resources, place=self.name)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """One compilation at a time, with what it caches in a folder that only its owner can write."""
    with _compiling, contextlib.ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of torch's own modules, about each other
        trace = logging.getLogger("torch.__trace")
        if "TORCH_TRACE" not in os.environ and not trace.disabled:  # nobody reads what it writes
            trace.disabled = True
            undo.callback(setattr, trace, "disabled", False)
        if CACHE_VARIABLE not in os.environ:
            os.environ[CACHE_VARIABLE] = str(_cache_folder(undo))
            undo.callback(os.environ.pop, CACHE_VARIABLE, None)
        yield


def _cache_folder(undo: contextlib.ExitStack) -> Path:
    base = os.environ.get("DIOE_CACHE_DIR") or platformdirs.user_cache_dir("dioe")
    folder = Path(base) / "inductor"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        if mine and not others and os.access(folder, os.W_OK):
            return folder
    return Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="dioe-inductor-")))
