"""``cambricon.magicmind`` on strict fakes of MagicMind, in a worker: every call, and its results.

Nothing here says how long a card takes, or that one takes it at all.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dioe.types import (
    BackendError,
    Context,
    DeviceLost,
    InputError,
    KnownAs,
    Precision,
    Precisions,
    Request,
    Resources,
    UnsupportedError,
)
from dioe_cambricon.backend import MagicMindBackend
from tests.backend.cambricon.conftest import Calls
from tests.backend.cambricon.models import images, reference, relative, resnet
from tests.backend.cases import floats, model, relu

Card = Callable[[], Context]
INT8 = Precisions(Precision.INT8)


def outputs(request: Request, feed: dict[str, Any]) -> Any:
    request.bind(feed)
    request.run().wait()
    return request.outputs


def test_a_resnet_in_int8_call_by_call(card: Card, calls: Calls) -> None:
    made, feeds = resnet(), images(3)
    context = card()
    calls.clear()
    executable = context.compile(made, INT8, {"kernel_fusion": True}, feeds)
    request = executable.request()
    found = outputs(request, feeds[0])["scores"]

    found_calls = calls()
    named = [name for name, _ in found_calls]
    assert named == [
        "Device.active",
        "Network",
        "Parser",
        "Parser.parse",
        "Network.get_input_count",
        "Dims",
        "Network.get_input",
        "Tensor.set_dimension",
        "BuilderConfig",
        "BuilderConfig.parse_from_string",
        "CalibDataInterface",
        "Calibrator",
        "Calibrator.set_quantization_algorithm",
        "Calibrator.calibrate",
        "Status.OK",  # reset
        *["Status.OK", "Dims", "get_datatype_by_numpy"] * 3,
        "Status",  # out of range
        "Builder",
        "Builder.build_model",
        "Model.get_input_names",
        "Model.get_output_names",
        "Model.get_input_data_types",
        "get_numpy_dtype_by_datatype",
        "_EngineConfig.device_type =",
        "Model.create_i_engine",
        "Device.active",
        "Engine.create_i_context",
        "Device.create_queue",
        "Context.create_inputs",
        "Device.active",
        "Tensor.from_numpy",
        "Tensor.to",
        "Context.enqueue",
        "Queue.sync",
        "Tensor.asnumpy",
    ]
    given = dict(found_calls)
    assert json.loads(given["BuilderConfig.parse_from_string"][0]) == {
        "debug_config": {"fusion_enable": True},
        "graph_shape_mutable": False,
        "opt_config": {"conv_scale_fold": True, "type64to32_conversion": True},
        "precision_config": {
            "activation_quant_algo": "symmetric",
            "precision_mode": "qint8_mixed_float16",
            "weight_quant_granularity": "per_axis",
        },
    }
    assert given["Tensor.set_dimension"] == [[1, 3, 16, 16]]
    assert given["Calibrator.set_quantization_algorithm"] == ["LINEAR_ALGORITHM"]
    assert given["Status"] == ["OUT_OF_RANGE", "No more data."]
    assert given["_EngineConfig.device_type ="] == ["MLU"]
    error = relative(found, reference(made, feeds[0])[0])
    assert 1e-4 < error < 0.1  # int8 is computed, by the ranges of these samples


def test_ranges_come_from_the_samples(card: Card) -> None:
    made, feed = resnet(), images(1)[0]
    expected = reference(made, feed)[0]
    wide = [{"image": 40 * feed["image"]}]
    errors = []
    for calibration in ([feed], wide):
        executable = card().compile(made, INT8, {}, calibration)
        errors.append(relative(outputs(executable.request(), feed)["scores"], expected))
    assert errors[1] > 3 * errors[0]


@pytest.mark.parametrize(("precision", "limit"), [(Precision.FP32, 1e-5), (Precision.FP16, 5e-3)])
def test_other_precisions(card: Card, calls: Calls, precision: Precision, limit: float) -> None:
    made, feed = resnet(), images(1)[0]
    executable = card().compile(made, Precisions(precision), {})
    found = outputs(executable.request(), feed)["scores"]
    assert relative(found, reference(made, feed)[0]) <= limit
    (text,) = dict(calls())["BuilderConfig.parse_from_string"]
    mode = json.loads(text)["precision_config"]
    assert mode == {"precision_mode": {"fp32": "force_float32", "fp16": "force_float16"}[precision]}
    assert "Calibrator" not in dict(calls())


def test_int8_needs_calibration(card: Card) -> None:
    empty: list[Any] = []
    for nothing in (None, empty):
        with pytest.raises(UnsupportedError, match="calibration") as raised:
            card().compile(resnet(), INT8, {}, nothing)
        assert "real feeds" in raised.value.fix


@pytest.mark.parametrize(
    ("feeds", "match"),
    [
        ([{"picture": floats(1, 3, 16, 16)}], "no input 'image'"),
        ([{"image": floats(1, 3, 8, 16)}], "shape is"),
        ([{"image": floats(1, 3, 16, 16).astype(np.float64)}], "dtype is float64"),
    ],
)
def test_wrong_calibration_is_refused(card: Card, feeds: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        card().compile(resnet(), INT8, {}, feeds)


def test_calibration_has_one_shape(card: Card) -> None:
    made = model("g (float[N,4] x, float[4,3] w) => (float[N,3] y) { y = MatMul(x, w) }")
    w = floats(4, 3)
    with pytest.raises(InputError, match="feed 1 has shape"):
        card().compile(made, INT8, {}, [{"x": floats(n, 4), "w": w} for n in (2, 3)])
    executable = card().compile(made, INT8, {}, [{"x": floats(2, 4), "w": w}] * 2)
    found = outputs(executable.request(), {"x": floats(2, 4), "w": w})["y"]
    assert relative(found, floats(2, 4) @ w) < 0.05


def test_mixed_precisions_are_refused(card: Card) -> None:
    with pytest.raises(UnsupportedError, match="fp16\\+fp32"):
        card().compile(resnet(), Precisions(Precision.FP16, {"stem": Precision.FP32}), {})


def test_the_compiled_form(card: Card, calls: Calls) -> None:
    made, feeds = resnet(), images(2)
    executable = card().compile(made, INT8, {}, feeds)
    blob = executable.serialize()
    assert blob is not None
    calls.clear()
    loaded = card().deserialize(blob)
    assert "Builder.build_model" not in dict(calls())
    assert (loaded.inputs, loaded.outputs) == (executable.inputs, executable.outputs)
    first, second = (outputs(e.request(), feeds[1])["scores"] for e in (executable, loaded))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("damage", ["other", "short", "changed"])
def test_a_damaged_form_is_refused(card: Card, damage: str) -> None:
    blob = card().compile(relu(4), Precisions(), {}).serialize()
    assert blob is not None
    damaged = {
        "other": b"PK" + blob,
        "short": blob[:-1],
        "changed": blob[:-4] + bytes(255 - byte for byte in blob[-4:]),
    }[damage]
    with pytest.raises(BackendError, match="not a compiled model"):
        card().deserialize(damaged)


def test_open_dimensions(card: Card, calls: Calls) -> None:
    options = {"dim_range": {"x": {"min": [1, 4], "max": [8, 4]}}}
    executable = card().compile(relu("N"), Precisions(), options)
    request = executable.request()
    for rows in (1, 5):
        x = floats(rows, 4)
        np.testing.assert_array_equal(outputs(request, {"x": x})["y"], np.maximum(x, 0))
    config = json.loads(dict(calls())["BuilderConfig.parse_from_string"][0])
    assert config["graph_shape_mutable"] is True
    assert config["dim_range"] == {"0": {"min": [1, 4], "max": [8, 4]}}
    assert dict(calls())["Tensor.set_dimension"] == [[-1, 4]]


def test_64_bit_integers_are_computed_in_32_bits(card: Card) -> None:
    made = model("g (int64[3] x, int64[3] k) => (int64[3] y) { y = Add(x, k) }")
    request = card().compile(made, Precisions(), {}).request()
    x, k = np.array([5, -2, 2**31 - 9]), np.array([1, 1, 8])
    found = outputs(request, {"x": x, "k": k})["y"]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, x + k)
    with pytest.raises(BackendError, match="beyond int32"):
        outputs(request, {"x": x, "k": np.array([2**40, 1, 1])})


def test_what_the_parser_refuses_is_told_op_by_op(magicmind: MagicMindBackend, card: Card) -> None:
    made = model(
        "g (float[4] x, bool c) => (float[4] y, double[4] z) {"
        " h = Relu(x)"
        " y = If (c) <then_branch = t () => (float[4] a) { a = Abs(h) },"
        " else_branch = e () => (float[4] b) { b = Neg(h) }>"
        " z = Cast <to = 11> (h) }"
    )
    found = magicmind.query(made, "mlu:0", Precision.FP32)
    assert found.supported == {"h"}
    assert "If is not supported" in found.refused["y"]
    assert "float64" in found.refused["z"]
    with pytest.raises(UnsupportedError):
        card().compile(made, Precisions(), {})


def test_a_killed_worker_is_a_lost_device(magicmind: MagicMindBackend, card: Card) -> None:
    request = card().compile(relu(4), Precisions(), {}).request()
    outputs(request, {"x": floats(4, 4)})
    os.kill(magicmind.host.process().pid, signal.SIGKILL)
    with pytest.raises(DeviceLost, match="SIGKILL"):
        outputs(request, {"x": floats(4, 4)})
    again = card().compile(relu(4), Precisions(), {}).request()  # in a new worker
    assert outputs(again, {"x": floats(4, 4)})["y"].shape == (4, 4)


def test_counters_of_fakes_are_none(magicmind: MagicMindBackend, card: Card) -> None:
    (device,) = magicmind.probe()
    assert device.known_as is KnownAs.CONTRACT
    assert not magicmind.simulated
    assert device.memory_bytes is None
    context = card()
    assert (context.power(), context.utilization()) == (None, None)
    assert dict(context.memory_info()) == {}


def test_a_card_that_is_not_there(magicmind: MagicMindBackend) -> None:
    with pytest.raises(UnsupportedError, match="mlu:1"):
        magicmind.open("mlu:1", Resources())
