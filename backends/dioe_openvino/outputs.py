"""The buffer that an output is written to: copied out of, or handed out itself."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

import openvino as ov

from dioe.host_backend import aligned_empty
from dioe.types import Array, TensorSpec
from dioe_openvino.tensors import tensor_over

HAND_OUT_BYTES = 32 * 1024
"""Below this size a copy takes no longer than finding out whether it is needed."""

HAND_OUT_AFTER = 4
"""Results that a caller must have let go of in a row, each before its next run."""

MOST_HAND_OUT_AFTER = 4096


def _nothing() -> None:
    """Stands in for a weak reference to no array."""


def _counts_references() -> bool:
    """True where a reference count tells whether anyone else has an array."""
    with_gil: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return sys.implementation.name == "cpython" and with_gil()


class Output:
    """An output of static shape and the buffer of our own that stays bound to it.

    Results are copied out of it, for a result is the caller's to keep, and to bind another buffer
    costs the next run more than a copy does. Once a caller has let go of several results in a row,
    each before its next run, the buffer itself is handed out: nothing is copied. Before each run
    the references to its memory tell whether the caller, or any view of the result, still has it.
    If so, it is theirs: another buffer takes its place, and results are copied again, the longer
    the oftener that happens. Outputs that are too large to be copied are always handed out.
    """

    __slots__ = (
        "_alone",
        "_always",
        "_array",
        "_counting",
        "_enough",
        "_handing",
        "_index",
        "_last",
        "_let_go",
        "_out",
        "_request",
        "_spec",
        "_type",
        "_watched",
    )

    def __init__(
        self, request: Any, index: int, spec: TensorSpec, element_type: ov.Type, *, copy_limit: int
    ) -> None:
        """Bind a buffer for ``spec``; above ``copy_limit`` bytes results aren't copied."""
        self._request, self._index = request, index
        self._spec, self._type = spec, element_type
        self._counting = _counts_references()
        self._enough, self._let_go = HAND_OUT_AFTER, 0
        self._last: Callable[[], Array | None] = _nothing
        self._out = False
        self._new_buffer()
        nbytes = self._array.nbytes
        self._always = self._handing = nbytes > copy_limit
        self._watched = self._counting and nbytes >= HAND_OUT_BYTES

    def before_run(self) -> None:
        """Let the caller keep the buffer, if they have it."""
        if not self._out:
            return
        self._out = False
        if self._counting and self._references() == self._alone:
            return
        self._new_buffer()
        if not self._always:
            self._handing = False
            self._enough = min(4 * self._enough, MOST_HAND_OUT_AFTER)

    def take(self) -> Array:
        """The result of the run just done, for the caller to keep."""
        if self._handing:
            self._out = True
            return self._array.view()
        result = self._array.copy()
        if self._watched:
            self._let_go = self._let_go + 1 if self._last() is None else 0
            self._last = weakref.ref(result)
            if self._let_go > self._enough:
                self._handing, self._let_go, self._last = True, 0, _nothing
        return result

    def _new_buffer(self) -> None:
        spec = self._spec
        shape = tuple(d for d in spec.shape or () if isinstance(d, int))
        # One more view: of all views' memory it is the one array that every one of them refers to.
        self._array = aligned_empty(shape, spec.dtype).view()
        tensor, _ = tensor_over(self._array, self._type)
        self._request.set_output_tensor(self._index, tensor)
        del tensor
        self._alone = self._references()

    def _references(self) -> int:
        """References to the buffer's memory; views of a view refer to the memory itself."""
        return sys.getrefcount(self._array.base)
