"""Programs as the client sends them (``dioe_cambricon.programs``), back as programs."""

from __future__ import annotations

import base64
import json
import mmap

import numpy as np

from dioe_cambricon.worker.errors import BackendError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAGIC = b"DIOE-PG1"
ALIGNMENT_BYTES = 64


def read_program(lowerings: Any, path: str) -> Any:
    """The program in a file, whose constants stay mapped; ``lowerings`` has the classes.

    The file may be deleted once this returns. Raises BackendError for other files.
    """
    with open(path, "rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    if data[: len(MAGIC)] != MAGIC:
        raise BackendError("the worker was sent no program")
    stop = len(MAGIC) + 8 + int.from_bytes(data[len(MAGIC) : len(MAGIC) + 8], "little")
    start = -(-stop // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    head = json.loads(data[len(MAGIC) + 8 : stop].decode("ascii"))
    return _Reader(lowerings, data, start).program(head)


class _Reader:
    def __init__(self, lowerings: Any, data: mmap.mmap, start: int) -> None:
        self._lowerings, self._data, self._start = lowerings, data, start

    def program(self, fields: dict[str, Any]) -> Any:
        shapes = fields["output_shapes"]
        return self._lowerings.Program(
            tuple(fields["inputs"]),
            tuple(fields["outputs"]),
            tuple(self.op(op) for op in fields["ops"]),
            {name: self.constant(described) for name, described in fields["constants"].items()},
            tuple(fields["captures"]),
            tuple(fields["output_dtypes"]),
            tuple(None if shape is None else tuple(shape) for shape in shapes),
        )

    def op(self, fields: dict[str, Any]) -> Any:
        attributes = {name: self.attribute(v) for name, v in fields["attributes"].items()}
        return self._lowerings.Op(
            fields["id"],
            fields["domain"],
            fields["type"],
            fields["version"],
            tuple(fields["inputs"]),
            tuple(fields["outputs"]),
            attributes,
            fields["precision"],
        )

    def constant(self, described: list[Any]) -> Any:
        name, kind, shape, offset = described
        dtype = np.dtype(kind)
        count = int(np.prod(shape, dtype=np.int64))
        if count == 0:
            return self._lowerings.Constant(name, np.empty(shape, dtype))
        array = np.frombuffer(self._data, dtype, count, self._start + offset)
        return self._lowerings.Constant(name, array.reshape(shape))

    def attribute(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self.attribute(item) for item in value)
        if not isinstance(value, dict):
            return value
        if "program" in value:
            return self.program(value["program"])
        if "constant" in value:
            return self.constant(value["constant"])
        return base64.b64decode(value["bytes"])
