"""Models on their way to the worker as op lists and weights: ``dioe_torch``'s programs as bytes.

A head in JSON, then the constants one after the other as the worker maps them. What reads them is
``worker/programs.py``. Nothing here imports torch but through the programs themselves.
"""

from __future__ import annotations

import base64
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dioe.types import Array, ModelError, Precisions, StageModel, UnsupportedError

if TYPE_CHECKING:
    import onnx_ir as ir

    from dioe_torch.lowerings import Constant, Program

MAGIC = b"DIOE-PG1"
ALIGNMENT_BYTES = 64


class ProgramModel:
    """A ``StageModel`` that crosses as a program, computed in ``precisions``."""

    def __init__(self, model: StageModel, precisions: Precisions) -> None:
        self._model, self._precisions = model, precisions
        self.op_ids, self.sha256 = model.op_ids, model.sha256

    @property
    def ir(self) -> ir.Model:
        """The model that the program is of."""
        return self._model.ir

    @cached_property
    def _encoded(self) -> bytes:
        from dioe_torch.lowerings import Unsupported
        from dioe_torch.program import program_of

        try:
            return encode(program_of(self._model, self._precisions))
        except Unsupported as error:
            raise UnsupportedError(str(error)) from None

    def to_bytes(self) -> bytes:
        """The encoded program; raises UnsupportedError for what is none."""
        return self._encoded

    def to_path(self) -> Path:
        """Always raises ModelError: programs travel in memory."""
        raise ModelError("a program is no file")


def encode(program: Program) -> bytes:
    """A program as bytes."""
    writer = _Writer()
    head = json.dumps(writer.program(program)).encode("ascii")
    start = _aligned(len(MAGIC) + 8 + len(head))
    parts = [(MAGIC + len(head).to_bytes(8, "little") + head).ljust(start, b"\0")]
    parts += [data.tobytes().ljust(_aligned(data.nbytes), b"\0") for data in writer.arrays]
    return b"".join(parts)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


class _Writer:
    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._nbytes = 0

    def program(self, program: Program) -> dict[str, Any]:
        fields = program._asdict()
        fields["constants"] = {n: self.constant(c) for n, c in program.constants.items()}
        fields["ops"] = [
            {
                **op._asdict(),
                "attributes": {name: self.attribute(v) for name, v in op.attributes.items()},
            }
            for op in program.ops
        ]
        return fields

    def constant(self, constant: Constant) -> list[Any]:
        data = np.ascontiguousarray(constant.data).reshape(constant.data.shape)
        if data.dtype.hasobject:
            raise UnsupportedError("text doesn't go to the card")
        offset, self._nbytes = self._nbytes, self._nbytes + _aligned(data.nbytes)
        self.arrays.append(data)
        return [constant.dtype, data.dtype.str, list(data.shape), offset]

    def attribute(self, value: Any) -> Any:
        from dioe_torch.lowerings import Constant, Program

        if isinstance(value, Program):
            return {"program": self.program(value)}
        if isinstance(value, Constant):
            return {"constant": self.constant(value)}
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode("ascii")}
        if isinstance(value, tuple | list):
            return [self.attribute(item) for item in value]
        if isinstance(value, np.generic):
            return value.item()
        return value
