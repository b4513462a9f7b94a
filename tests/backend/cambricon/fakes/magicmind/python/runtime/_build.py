"""From a parsed network to a built model: configuration, calibration, ``Builder``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx

from ..._contract import BUILD, CALIBRATE, PROCESS, SAMPLES, SEEN, Strict, seen
from ._device import active_card
from ._enums import DataType, QuantizationAlgorithm
from ._model import Model
from ._quantise import activation_ranges, in_half_precision, quantised
from ._values import GOOD, Dims, Status, bad

MODES = (
    "force_float32", "force_float16", "qint8_mixed_float16", "qint16_mixed_float16",
    "qint8_mixed_float32", "qint16_mixed_float32",
)  # fmt: skip
ARCHS = ("mtp_220", "mtp_270", "mtp_290", "mtp_372", "tp_322", "mtp_592")

CONFIG: dict[str, Any] = {
    "archs": list,
    "computation_preference": ("auto", "fast", "high_precision"),
    "debug_config": {"fusion_enable": bool},
    "dim_range": dict,
    "graph_shape_mutable": bool,
    "opt_config": {"type64to32_conversion": bool, "conv_scale_fold": bool},
    "precision_config": {
        "precision_mode": MODES,
        "weight_quant_granularity": ("per_tensor", "per_axis"),
        "activation_quant_algo": ("symmetric", "asymmetric"),
    },
}
"""Keys of the build configuration that were seen, and what they take."""

for _key in CONFIG:
    SEEN[f"config:{_key}"] = PROCESS


def _refusal(found: Any, known: Any, path: str) -> str:
    if isinstance(known, dict):
        if not isinstance(found, dict):
            return f"{path} is no object"
        for key, value in found.items():
            if key not in known:
                return f"unknown key {path}.{key}"
            refusal = _refusal(value, known[key], f"{path}.{key}")
            if refusal:
                return refusal
        return ""
    good = found in known if isinstance(known, tuple) else isinstance(found, known)
    return "" if good else f"{path} can't be {found!r}"


class BuilderConfig(Strict):
    @seen(BUILD)
    def __init__(self) -> None:
        self._config: dict[str, Any] = {}

    @seen(BUILD)
    def parse_from_string(self, text: str) -> Status:
        found = json.loads(text)
        refusal = _refusal(found, CONFIG, "config")
        unknown = [a for a in found.get("archs", []) if a not in ARCHS]
        if refusal or unknown:
            return bad(refusal or f"unknown archs {unknown}")
        for key, value in found.items():
            if isinstance(value, dict):
                self._config.setdefault(key, {}).update(value)
            else:
                self._config[key] = value
        return GOOD


class Tensor(Strict):
    """An input of a network."""

    def __init__(self, info: onnx.ValueInfoProto) -> None:
        self._info = info

    @seen(BUILD)
    def set_dimension(self, dims: Dims) -> Status:
        shape = self._info.type.tensor_type.shape
        if len(dims._dims) != len(shape.dim):
            return bad(f"{len(dims._dims)} dimensions for a tensor of {len(shape.dim)}")
        for place, (dim, size) in enumerate(zip(shape.dim, dims._dims, strict=True)):
            if dim.HasField("dim_value") and size not in (-1, dim.dim_value):
                return bad(f"dimension {place} is {dim.dim_value}, not {size}")
            if size >= 0:
                dim.dim_value = size
        return GOOD


class Network(Strict):
    """A parsed model; ``_model`` is it, ``_ranges`` what calibration found."""

    @seen(BUILD)
    def __init__(self) -> None:
        self._model: onnx.ModelProto | None = None
        self._ranges: dict[str, tuple[float, float]] | None = None

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        if self._model is None:
            raise RuntimeError("nothing was parsed into the network")
        weights = {tensor.name for tensor in self._model.graph.initializer}
        return [value for value in self._model.graph.input if value.name not in weights]

    @seen(PROCESS)
    def get_input_count(self) -> int:
        return len(self._inputs())

    @seen(BUILD)
    def get_input(self, place: int) -> Tensor:
        return Tensor(self._inputs()[place])


class CalibDataInterface(Strict):
    """What a user implements: ``next``, ``get_shape``, ``get_data_type``, ``get_sample``,
    ``reset``."""

    @seen(SAMPLES)
    def __init__(self) -> None:
        pass


class Calibrator(Strict):
    @seen(CALIBRATE)
    def __init__(self, sources: list[CalibDataInterface]) -> None:
        strangers = [type(s).__name__ for s in sources if CalibDataInterface not in type(s).mro()]
        if strangers:
            raise TypeError(f"{strangers} are no CalibDataInterface")
        self._sources = sources
        self._algorithm: QuantizationAlgorithm | None = None

    @seen(CALIBRATE)
    def set_quantization_algorithm(self, algorithm: QuantizationAlgorithm) -> Status:
        if algorithm not in list(QuantizationAlgorithm):
            return bad("no algorithm")
        self._algorithm = algorithm
        return GOOD

    @seen(CALIBRATE)
    def calibrate(self, network: Network, config: BuilderConfig) -> Status:
        mode = config._config.get("precision_config", {}).get("precision_mode", "")
        inputs = network._inputs()
        if active_card() is None:
            return bad("no device is active")
        if self._algorithm is None or not mode.startswith("qint"):
            return bad("no quantization algorithm, or no precision mode that quantises")
        if len(self._sources) != len(inputs):
            return bad(f"{len(self._sources)} sources for {len(inputs)} inputs")
        feeds, sources = [], list[Any](self._sources)
        for source in sources:
            if not source.reset().ok():
                return bad("a source can't be reset")
        while _all_next(sources):
            feed = {}
            for info, source in zip(inputs, sources, strict=True):
                sample, dims = source.get_sample(), source.get_shape()._dims
                if list(sample.shape) != dims or not isinstance(source.get_data_type(), DataType):
                    return bad("a sample isn't what its source says")
                wanted = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
                if wanted != dims:
                    return bad(f"a sample of {dims} for a network of {wanted}")
                feed[info.name] = np.array(sample)
            feeds.append(feed)
        if not feeds:
            return bad("no sample")
        assert network._model is not None
        network._ranges = activation_ranges(network._model, feeds)
        return GOOD


def _all_next(sources: list[Any]) -> bool:
    """Every source moves on, whatever the others say."""
    more = [source.next().ok() for source in sources]
    return all(more)


class Builder(Strict):
    @seen(BUILD)
    def __init__(self) -> None:
        pass

    @seen(BUILD)
    def build_model(self, name: str, network: Network, config: BuilderConfig) -> Model | None:
        settings = config._config
        precision = settings.get("precision_config", {})
        mode = precision.get("precision_mode", "force_float32")
        inputs = network._inputs()
        model = network._model
        assert model is not None
        static = all(
            dim.HasField("dim_value") for i in inputs for dim in i.type.tensor_type.shape.dim
        )
        if not static and not settings.get("graph_shape_mutable", True):
            return None
        if mode.startswith("qint8"):
            if network._ranges is None:
                return None  # int8 without ranges of activations
            per_axis = precision.get("weight_quant_granularity") == "per_axis"
            model = quantised(model, network._ranges, per_axis=per_axis)
        elif mode.startswith("qint"):
            return None  # not computed by this fake
        elif mode == "force_float16":
            model = in_half_precision(model)
        return Model._built(model, settings)
