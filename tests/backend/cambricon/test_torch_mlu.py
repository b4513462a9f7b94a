"""``cambricon.torch`` on a strict fake of torch_mlu, in a worker; its tensors are simulated."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dioe_cambricon
from dioe.graph import Model
from dioe.types import (
    BackendError,
    Effect,
    InputError,
    KnownAs,
    Precision,
    Precisions,
    Resources,
    UnsupportedError,
)
from dioe_cambricon.torch_backend import TorchMluBackend
from tests.backend.cambricon.conftest import Calls
from tests.backend.cambricon.models import (
    images,
    reference,
    relative,
    resnet,
    transformer_block,
)
from tests.backend.cases import floats, model, relu

CASES: dict[str, tuple[Model, dict[str, Any]]] = {
    "cnn": (resnet(), images(1)[0]),
    "transformer": (transformer_block(), {"x": floats(1, 6, 16)}),
}


def run(
    backend: TorchMluBackend, device: str, made: Model, precisions: Precisions, feed: Any
) -> Any:
    context = backend.open(device, Resources())
    try:
        request = context.compile(made, precisions, {}).request()
        request.bind(feed)
        request.run().wait()
        return [np.array(value) for value in request.outputs.values()]
    finally:
        context.close()


def test_two_cards_are_found_as_fakes(torch_mlu: TorchMluBackend) -> None:
    devices = torch_mlu.probe()
    assert [device.id for device in devices] == ["mlu:0", "mlu:1"]
    assert {device.known_as for device in devices} == {KnownAs.CONTRACT}
    assert all(device.memory_bytes for device in devices)
    assert "torch 2" in torch_mlu.version
    can = torch_mlu.capabilities("mlu:1")
    assert can.computes == {Precision.FP32, Precision.FP16}  # an MLU370 has no bf16
    assert can.mixes_precisions


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("device", ["mlu:0", "mlu:1"])
def test_models_in_fp32_and_fp16(torch_mlu: TorchMluBackend, case: str, device: str) -> None:
    made, feed = CASES[case]
    assert torch_mlu.query(made, device, Precision.FP16).whole
    (expected,) = reference(made, feed)
    (found,) = run(torch_mlu, device, made, Precisions(), feed)
    assert relative(found, expected) < 1e-5
    (lowered,) = run(torch_mlu, device, made, Precisions(Precision.FP16), feed)
    assert lowered.dtype == np.float32
    assert 1e-5 < relative(lowered, expected) < 5e-3
    kept = dict.fromkeys(made.op_ids, Precision.FP32)
    (exact,) = run(torch_mlu, device, made, Precisions(Precision.FP16, kept), feed)
    assert relative(exact, expected) < 1e-5


def test_only_known_calls_are_made(torch_mlu: TorchMluBackend, calls: Calls) -> None:
    made, feed = CASES["cnn"]
    run(torch_mlu, "mlu:1", made, Precisions(), feed)
    made_calls = [(name, args) for name, args in calls() if name.startswith("mlu.")]
    assert {name for name, _ in made_calls} == {
        "mlu.is_available", "mlu.device_count", "mlu.get_device_capability",
        "mlu.get_device_name", "mlu.mem_get_info", "mlu.set_device",
    }  # fmt: skip
    assert made_calls[-1] == ("mlu.set_device", [1])


@pytest.mark.parametrize("code", ["torch.mlu.nonsense", "torch.mlu.Stream"])
def test_the_fake_is_strict(vendor_python: Path, torch_mlu: TorchMluBackend, code: str) -> None:
    backends = Path(dioe_cambricon.__file__).parents[1]
    done = subprocess.run(
        [vendor_python, "-c", f"import torch_mlu, torch; {code}"],
        env=os.environ | {"PYTHONPATH": str(backends)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "was seen anywhere" in done.stderr


def test_what_is_refused(torch_mlu: TorchMluBackend) -> None:
    made = model(
        "g (float[4] x) => (float[4] y, bfloat16[4] z) { y = Relu(x) z = Cast <to=16> (x) }"
    )
    found = torch_mlu.query(made, "mlu:0", Precision.FP32)
    assert found.supported == {"y"}
    assert "bfloat16" in found.refused["z"]
    with pytest.raises(UnsupportedError, match="bfloat16"):
        run(torch_mlu, "mlu:0", made, Precisions(), {"x": floats(4)})
    for precision in (Precision.INT8, Precision.BF16):
        assert not torch_mlu.query(relu(), "mlu:0", precision).supported
        with pytest.raises(UnsupportedError, match=precision):
            run(torch_mlu, "mlu:0", relu(4), Precisions(precision), {"x": floats(4, 4)})


def test_options(torch_mlu: TorchMluBackend) -> None:
    answers = torch_mlu.resolve(
        {"precision": "int8", "kernel_fusion": True, "tiling_strategy": "auto", "threads": 2}
    )
    effects = {key: answer.effect for key, answer in answers.items()}
    assert effects.pop("precision") is Effect.REJECTED
    assert "magicmind" in answers["precision"].note
    assert set(effects.values()) == {Effect.IGNORED}
    with pytest.raises(InputError, match="nonsense"):
        torch_mlu.open("mlu:0", Resources()).compile(relu(), Precisions(), {"nonsense": 1})


def test_counters_and_memory(torch_mlu: TorchMluBackend) -> None:
    context = torch_mlu.open("mlu:0", Resources())
    before = context.memory_info()["available_bytes"]
    executable = context.compile(resnet(), Precisions(), {})
    assert executable.memory_bytes
    assert context.memory_info()["available_bytes"] < before
    assert executable.serialize() is None
    with pytest.raises(UnsupportedError, match="no compiled form"):
        context.deserialize(b"anything")
    assert (context.power(), context.utilization()) == (None, None)
    context.close()
    with pytest.raises(BackendError, match="closed"):
        executable.request()
