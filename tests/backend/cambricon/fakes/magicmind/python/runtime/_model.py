"""A built model, and what runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ..._contract import PROCESS, RUNNER, Strict, seen
from ._device import Device, Queue, active_card
from ._enums import DataType
from ._values import GOOD, Status, bad

_KINDS: dict[int, DataType] = {
    onnx.TensorProto.BOOL: DataType.BOOL,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.INT16: DataType.INT16,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.UINT8: DataType.UINT8,
    onnx.TensorProto.UINT16: DataType.UINT16,
    onnx.TensorProto.UINT32: DataType.UINT32,
    onnx.TensorProto.FLOAT16: DataType.FLOAT16,
    onnx.TensorProto.FLOAT: DataType.FLOAT32,
}
_FILE = b"FAKE MagicMind model\n"
_NARROWED = {DataType.INT64: DataType.INT32}


class _EngineConfig(Strict):
    settable = ("device_type",)


class Model(Strict):
    EngineConfig = _EngineConfig

    @seen(RUNNER)
    def __init__(self) -> None:
        self._model: onnx.ModelProto | None = None
        self._settings: dict[str, Any] = {}

    @classmethod
    def _built(cls, model: onnx.ModelProto, settings: dict[str, Any]) -> Model:
        made = cls.__new__(cls)
        made._model, made._settings = model, settings
        return made

    def _graph(self) -> onnx.GraphProto:
        if self._model is None:
            raise RuntimeError("the model is empty")
        return self._model.graph

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        weights = {tensor.name for tensor in self._graph().initializer}
        return [value for value in self._graph().input if value.name not in weights]

    def _kind(self, value: onnx.ValueInfoProto) -> DataType:
        kind = _KINDS[value.type.tensor_type.elem_type]
        narrow = self._settings.get("opt_config", {}).get("type64to32_conversion", False)
        return _NARROWED.get(kind, kind) if narrow else kind

    @seen(RUNNER)
    def deserialize_from_file(self, path: str) -> Status:
        data = Path(path).read_bytes()
        if not data.startswith(_FILE):
            return bad("not a model file")
        head, _, body = data[len(_FILE) :].partition(b"\n")
        self._settings = json.loads(head)
        self._model = onnx.load_from_string(body)
        return GOOD

    @seen(PROCESS)
    def serialize_to_file(self, path: str) -> Status:
        assert self._model is not None
        head = json.dumps(self._settings).encode()
        Path(path).write_bytes(_FILE + head + b"\n" + self._model.SerializeToString())
        return GOOD

    @seen(RUNNER)
    def get_input_num(self) -> int:
        return len(self._inputs())

    @seen(RUNNER)
    def get_output_num(self) -> int:
        return len(self._graph().output)

    @seen(PROCESS)
    def get_input_names(self) -> list[str]:
        return [value.name for value in self._inputs()]

    @seen(PROCESS)
    def get_output_names(self) -> list[str]:
        return [value.name for value in self._graph().output]

    @seen(PROCESS)
    def get_input_data_types(self) -> list[DataType]:
        return [self._kind(value) for value in self._inputs()]

    @seen(PROCESS)
    def get_output_data_types(self) -> list[DataType]:
        return [self._kind(value) for value in self._graph().output]

    @seen(RUNNER)
    def create_i_engine(self, config: _EngineConfig | None = None) -> Engine:
        if config is not None and config.device_type != "MLU":
            raise RuntimeError(f"no device type {config.device_type!r}")
        if active_card() is None:
            raise RuntimeError("no device is active in this thread")
        return Engine(self)


class Engine(Strict):
    def __init__(self, model: Model) -> None:
        self._model = model

    @seen(RUNNER)
    def create_i_context(self) -> Context:
        if active_card() is None:
            raise RuntimeError("no device is active in this thread")
        return Context(self._model)


class Context(Strict):
    def __init__(self, model: Model) -> None:
        self._model = model
        assert model._model is not None
        self._evaluator = ReferenceEvaluator(model._model)

    @seen(RUNNER)
    def create_inputs(self) -> list[Tensor]:
        return [Tensor(self._model._kind(value), value) for value in self._model._inputs()]

    @seen(RUNNER)
    def enqueue(self, inputs: list[Tensor], outputs: list[Tensor], queue: Queue) -> Status:
        model = self._model
        if any(tensor._data is None or tensor._device is None for tensor in inputs):
            return bad("an input has no data on the device")
        if active_card() is None:
            return bad("no device is active in this thread")
        feeds = {}
        for tensor, value in zip(inputs, model._inputs(), strict=True):
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            assert tensor._data is not None
            feeds[value.name] = tensor._data.astype(dtype)
        outputs[:] = [Tensor(model._kind(value), value) for value in model._graph().output]

        def work() -> None:
            found: Any = self._evaluator.run(None, feeds)
            for tensor, value in zip(outputs, found, strict=True):
                narrow = tensor._kind is DataType.INT32
                tensor._data = np.array(value, np.int32 if narrow else None)

        queue._work.append(work)
        return GOOD


class Tensor(Strict):
    """An input or output of a context."""

    def __init__(self, kind: DataType, value: onnx.ValueInfoProto) -> None:
        self._kind = kind
        self._value = value
        self._data: np.ndarray[Any, np.dtype[Any]] | None = None
        self._device: int | None = None

    @seen(RUNNER)
    def from_numpy(self, array: np.ndarray[Any, np.dtype[Any]]) -> None:
        from ..common.types import _NUMPY

        if array.dtype != _NUMPY[self._kind] or not array.flags.c_contiguous:
            raise TypeError(f"{array.dtype} for a tensor of {self._kind.name}, or not contiguous")
        for dim, size in zip(self._value.type.tensor_type.shape.dim, array.shape, strict=True):
            if dim.HasField("dim_value") and dim.dim_value != size:
                raise ValueError(f"shape {array.shape} doesn't fit")
        self._data = np.array(array)
        self._device = None

    @seen(RUNNER)
    def to(self, device: Device) -> None:
        self._device = device.id

    @seen(RUNNER)
    def asnumpy(self) -> np.ndarray[Any, np.dtype[Any]]:
        if self._data is None:
            raise RuntimeError("the queue wasn't synchronised")
        return self._data
