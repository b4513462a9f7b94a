"""``Status`` and ``Dims``."""

from __future__ import annotations

from collections.abc import Sequence

from ..._contract import BUILD, PROCESS, SAMPLES, SEEN, Strict, seen
from ._enums import Code


class Status(Strict):
    @seen(SAMPLES)
    def __init__(self, code: Code = Code.OK, text: str = "") -> None:
        self._code, self._text = code, text

    @staticmethod
    @seen(SAMPLES)
    def OK() -> Status:  # noqa: N802
        return _status(Code.OK)

    def ok(self) -> bool:
        return self._code is Code.OK

    def __str__(self) -> str:
        return self._text


SEEN["Status.ok"] = BUILD  # not recorded: it follows every other call


def _status(code: Code, text: str = "") -> Status:
    found = Status.__new__(Status)
    found._code, found._text = code, text
    return found


GOOD = _status(Code.OK)


def bad(text: str) -> Status:
    """What a call that failed gives."""
    return _status(Code.FAILED, text)


class Dims(Strict):
    @seen(BUILD)
    def __init__(self, dims: Sequence[int]) -> None:
        if not all(isinstance(d, int) for d in dims):
            raise TypeError(f"dimensions are {dims!r}")
        self._dims = [int(d) for d in dims]

    @seen(PROCESS)
    def GetDims(self) -> list[int]:  # noqa: N802
        return list(self._dims)

    @seen(PROCESS)
    def GetDimValue(self, axis: int) -> int:  # noqa: N802
        return self._dims[axis]
