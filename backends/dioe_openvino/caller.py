"""One call from feeds to fresh outputs, with the fewest copies and bindings."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov

from dioe.host_backend import (
    aligned_empty,
    check_array,
    contiguous,
    host_array,
    match_outputs,
    missing_inputs,
    unknown_name,
)
from dioe.types import Array, BackendError, Feeds, InputError, TensorSpec, Value
from dioe_openvino.errors import PLACE, run_error
from dioe_openvino.outputs import Output
from dioe_openvino.ports import NO_FEEDS, Ports, closed, native_infer, run_closed
from dioe_openvino.tensors import array_of, is_packed, tensor_over

COPY_LIMIT_BYTES = 8 * 2**20
"""Up to this size copying takes less than binding another buffer.

Binding itself takes about 3.6 µs, but the next run then passes the new address on through its
graph: +65 µs on PP-OCR cls (110 KiB in), +190 to 250 µs on EfficientNet-lite0 (588 KiB in), +70 µs
in and +145 µs out on PP-OCR rec. Copying 588 KiB takes 11 µs and 4.7 MiB 124 µs (OpenVINO 2026.4.1
on 2 cores of an AMD EPYC).
"""

ADOPT_AFTER = 4
"""An array that is fed this often in a row is bound and read in place from then on.

Binding it costs the next run what some ten copies take, so a caller that changes arrays now and
then must not make it happen each time.
"""

ADOPT_AT_ONCE_BYTES = 256 * 1024
"""From this size on, the second time is enough."""


_NO_ARRAY: Array = np.empty(0)


class _Copied:
    """An input of static shape, and the tensor of our own that feeds are copied into."""

    __slots__ = (
        "adopted",
        "array",
        "dtype",
        "enough",
        "index",
        "last",
        "name",
        "seen",
        "shape",
        "tensor",
    )

    def __init__(self, name: str, index: int, array: Array, tensor: ov.Tensor) -> None:
        self.name, self.index = name, index
        self.array, self.tensor = array, tensor
        self.shape, self.dtype = array.shape, array.dtype
        self.adopted = _NO_ARRAY  # the caller's array, bound instead of ``tensor``
        self.last: Callable[[], Array | None] = _nothing
        self.seen = 0
        self.enough = 2 if array.nbytes >= ADOPT_AT_ONCE_BYTES else ADOPT_AFTER


def _nothing() -> None:
    """Stands in for a weak reference to no array."""


class Caller:
    """Runs one call at a time on an InferRequest of its own.

    Inputs of static shape are copied into tensors that stay bound, unless they are very large; all
    others are bound in place. A caller that feeds one array again and again has it read in place
    too, until another one comes. Outputs are copied out of buffers that stay bound, or those are
    handed out to a caller that lets go of them before the next run (``Output``).
    """

    def __init__(self, compiled: ov.CompiledModel, ports: Ports) -> None:
        self._ports = ports
        self._request: Any = compiled.create_infer_request()
        self._infer: Callable[..., Any] = native_infer(self._request)
        self._copied: list[_Copied] = []
        self._kept: dict[str, Array] = {}
        self._outputs: dict[str, Output] = {}
        for name, spec in ports.inputs.items():
            shape = _static_shape(spec)
            index = ports.input_index.get(name)
            if index is not None and shape is not None and _nbytes(shape, spec) <= COPY_LIMIT_BYTES:
                array = aligned_empty(shape, spec.dtype)
                tensor, _ = tensor_over(array, ports.types[name])
                self._request.set_input_tensor(index, tensor)
                self._copied.append(_Copied(name, index, array, tensor))
        copied = {slot.name for slot in self._copied}
        self._bound = tuple(name for name in ports.inputs if name not in copied)
        for name, spec in ports.outputs.items():
            if _static_shape(spec) is not None:
                index, element_type = ports.output_index[name], ports.types[name]
                self._outputs[name] = Output(
                    self._request, index, spec, element_type, copy_limit=COPY_LIMIT_BYTES
                )
        self._written = tuple(self._outputs.values())

    def __call__(self, feeds: Feeds, output_names: Sequence[str]) -> list[Value]:
        """See ``OpenVinoRequest.call``."""
        if self._request is None:
            raise closed()
        try:
            for slot in self._copied:
                value = feeds[slot.name]
                if value is not slot.adopted:
                    self._copy_in(slot, value)
            for name in self._bound:
                value = feeds[name]
                if value is not self._kept.get(name, _NO_ARRAY):
                    self._bind(name, value)
            if len(feeds) > len(self._ports.inputs):
                raise self._unknown(feeds)
            for output in self._written:
                output.before_run()
            self._infer(NO_FEEDS, True, True)
            return [self._take(name) for name in output_names]
        except (BackendError, InputError):
            raise
        except Exception as error:
            missing = [name for name in self._ports.inputs if name not in feeds]
            if missing:
                raise missing_inputs(missing, PLACE) from None
            raise run_error(error) from error

    def _copy_in(self, slot: _Copied, value: Any) -> None:
        """Copy a feed, or adopt it: bind it in place, if it has been fed often enough in a row."""
        array: Array = value
        if type(value) is not np.ndarray or value.shape != slot.shape or value.dtype != slot.dtype:
            spec = self._ports.inputs[slot.name]
            array = host_array(value, spec)
            check_array(array, spec)
        if slot.last() is array:
            slot.seen += 1
            if slot.seen >= slot.enough and array.flags.c_contiguous and array.flags.aligned:
                tensor, _ = tensor_over(array, self._ports.types[slot.name])
                self._request.set_input_tensor(slot.index, tensor)
                slot.adopted = array
                return
        else:
            slot.last, slot.seen = weakref.ref(array), 1
            if slot.adopted is not _NO_ARRAY:
                self._request.set_input_tensor(slot.index, slot.tensor)
                slot.adopted = _NO_ARRAY
        slot.array[...] = array

    def _bind(self, name: str, value: Any) -> None:
        """Bind a feed in place: one that is very large or whose shape may vary."""
        spec = self._ports.inputs[name]
        array = host_array(value, spec)
        check_array(array, spec)
        index = self._ports.input_index.get(name)
        if index is None:
            return
        tensor, array = tensor_over(contiguous(array), self._ports.types[name])
        self._request.set_input_tensor(index, tensor)
        self._kept[name] = array

    def _unknown(self, feeds: Feeds) -> Exception:
        name = next(name for name in feeds if name not in self._ports.inputs)
        return unknown_name(name, self._ports.inputs, "input")

    def _take(self, name: str) -> Array:
        """One output of the run just done, for the caller to keep."""
        output = self._outputs.get(name)
        if output is not None:
            return output.take()
        match_outputs([name], self._ports.outputs)
        tensor = self._request.get_output_tensor(self._ports.output_index[name])
        return array_of(tensor, self._ports.outputs[name]).copy()

    def drop(self) -> None:
        """Let go of the compiled model and of all buffers."""
        self._infer = run_closed
        self._request = None
        self._copied.clear()
        self._kept.clear()
        self._outputs.clear()
        self._written = ()


def _static_shape(spec: TensorSpec) -> tuple[int, ...] | None:
    if spec.shape is None or is_packed(spec.dtype):
        return None
    shape = tuple(d for d in spec.shape if isinstance(d, int))
    return shape if len(shape) == len(spec.shape) else None


def _nbytes(shape: tuple[int, ...], spec: TensorSpec) -> int:
    return int(np.prod(shape, dtype=np.int64)) * spec.dtype.itemsize
