"""Models on their way to a worker: bytes in shared memory, or the path of a file above 2 GiB."""

from __future__ import annotations

import itertools
import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dioe.registry.worker.memory import Segment
from dioe.registry.worker.process import WorkerProcess
from dioe.types import ModelError, StageModel

if TYPE_CHECKING:
    import onnx_ir as ir


def send_model(model: StageModel, process: WorkerProcess) -> tuple[dict[str, Any], Segment | None]:
    """How a frame names the model, and the memory that has to live until it is answered."""
    named: dict[str, Any] = {"op_ids": list(model.op_ids), "sha256": model.sha256}
    try:
        data = model.to_bytes()
    except ModelError:  # above 2 GiB
        return named | {"path": os.fspath(model.to_path())}, None
    segment = process.segment(len(data))
    segment.bytes(0, len(data))[:] = np.frombuffer(data, np.uint8)
    return named | {"segment": segment.id, "nbytes": len(data)}, segment


class ReceivedModel:
    """A ``StageModel`` as the worker has it: over the client's memory, or the client's file."""

    _numbers = itertools.count()

    def __init__(
        self,
        data: memoryview | None,
        path: Path | None,
        op_ids: tuple[str, ...],
        sha256: str,
        folder: Path,
    ) -> None:
        self.op_ids, self.sha256 = op_ids, sha256
        self._data, self._path, self._folder = data, path, folder

    @cached_property
    def ir(self) -> ir.Model:
        """The model, its nodes named by their op ids."""
        import onnx
        import onnx_ir as ir

        if self._data is None:
            model = ir.load(self.to_path())
        else:
            model = ir.from_proto(onnx.load_from_string(self.to_bytes()))
        for node, op in zip(model.graph, self.op_ids, strict=True):
            node.name = op
        return model

    def to_bytes(self) -> bytes:
        """The serialised model; raises ModelError for one above 2 GiB."""
        if self._data is None:
            raise ModelError("is more than a protobuf holds", fix="use to_path()")
        return bytes(self._data)

    def to_path(self) -> Path:
        """A file with the model that exists as long as this object."""
        if self._path is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"model-{next(self._numbers)}.onnx"
            path.write_bytes(self.to_bytes())
            weakref.finalize(self, path.unlink, missing_ok=True)
            self._path = path
        return self._path
