"""``dioe verify``: which device is meant, what is found out about it, and what that comes to."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dioe import types
from dioe.cli.verification import kit, report, work
from dioe.cli.verification.graphs import capture_of, check_graphs
from dioe.cli.verification.subjects import DeviceAbsent
from dioe.cli.verification.timings import check_timings, cpu_place
from dioe.cli.verification.transfers import check_transfers
from dioe.cli.verification.work import Place, Work
from dioe.testing.models import floats, perceptron
from dioe.types import (
    BackendError,
    Buffer,
    Capabilities,
    DeviceInfo,
    DeviceState,
    DioeError,
    Event,
    KnownAs,
    OutOfMemory,
    Precisions,
    Resources,
    Value,
)
from tests.toys.backend import ToyBackend, ToyContext
from tests.unit.cli.conftest import Dioe, UseBackends, is_told

ABSENT = KnownAs.ABSENT


class Absent(ToyBackend):
    """A backend whose only device isn't there."""

    def probe(self) -> list[DeviceInfo]:
        reason = f"no driver of {self.name}"
        return [DeviceInfo("gpu:0", "gpu", "", DeviceState.ABSENT, reason, known_as=ABSENT)]


class OnGpu(ToyBackend):
    """A backend that calls the host a device."""

    known_as = KnownAs.HARDWARE

    def probe(self) -> list[DeviceInfo]:
        return [DeviceInfo("gpu:0", "gpu", "a toy", uuid="toy", known_as=self.known_as)]


class Simulated(OnGpu):
    known_as = KnownAs.SIMULATED


class Modelled(OnGpu):
    known_as = KnownAs.MODELLED


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little to copy and to compute."""
    copies = functools.partial(check_transfers, sizes=(1 << 10, 1 << 14), seconds=0.001)
    monkeypatch.setattr(report, "check_transfers", copies)
    times = functools.partial(check_timings, budget_s=0.05)
    monkeypatch.setattr(report, "check_timings", times)
    monkeypatch.setattr(report, "models", lambda: (tiny(),))


def tiny() -> Work:
    return work.work("tiny", perceptron(1, 8), floats(2, 8))


def test_the_code_of_an_absent_device_is_its_own() -> None:
    from dioe.cli.fetch import FetchError

    kinds = [k for k in vars(types).values() if isinstance(k, type) and issubclass(k, DioeError)]
    assert DeviceAbsent.exit_code not in {FetchError.exit_code, *(k.exit_code for k in kinds)}


def test_an_absent_device_says_why(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Absent("acme"), Absent("bolt"))
    for device in ("gpu:0", "gpu:1"):  # gpu:1 is bolt's in the merged list
        said = dioe("verify", "--device", device)
        is_told(said, 21, f"{device} is absent", "acme: gpu:0 is absent, no driver of acme", "bolt")
    is_told(dioe("verify", "--device", "gpu:0", "--backend", "bolt"), 21, "no driver of bolt")
    assert "acme" not in dioe("verify", "--device", "gpu:0", "--backend", "bolt").err


def test_a_device_that_a_named_backend_cant_use(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Absent("acme"))
    said = dioe("verify", "--device", "cpu", "--backend", "acme")
    is_told(said, 21, "cpu can't be used by acme", "no driver of acme")


def test_an_unknown_device_and_backend(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Absent("acme"))
    is_told(dioe("verify", "--device", "tpu:3"), 11, "'tpu:3'", "devices: cpu, gpu:0 (absent)")
    is_told(dioe("verify", "--device", "cpu", "--backend", "nosuch"), 12, "'nosuch'")


def test_a_modelled_device_is_meant_only_by_name(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Modelled("model", simulated=True), Absent("acme"))
    is_told(dioe("verify", "--device", "gpu:0"), 21, "no driver of acme", "gpu:0 of model is a toy")
    checks = ("--check", "transfers", "--check", "timings")
    found = dioe("verify", "--device", "gpu:0", "--backend", "model", *checks)
    assert found.code == 0, found.err
    part = found.json["backends"]["model"]
    assert part["transfers"]["known_as"] == part["timings"]["known_as"] == "modelled"
    assert {copy["equal"] for copy in part["transfers"]["copies"]} == {None}
    (timing,) = part["timings"]["models"]
    assert "relative_l2" not in timing
    assert "cpu" not in timing


def test_a_wrong_check(dioe: Dioe) -> None:
    is_told(dioe("verify", "--device", "cpu", "--check", "speed"), 11, "'speed'", "transfers")
    is_told(dioe("verify", "--device", "cpu", "--check", "timings.all"), 11, "'timings.all'")
    said = dioe("verify", "--device", "cpu", "--check", "correctness.looks")
    is_told(said, 11, "'looks'", "declarations")


def test_pytest_is_missing(dioe: Dioe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    is_told(dioe("verify", "--device", "cpu"), 12, "pytest", "pip install 'dioe[testing]'")


def test_the_report_of_a_device(dioe: Dioe, tmp_path: Path) -> None:
    """The kit runs in a process of its own; the file and stdout say the same."""
    file = tmp_path / "report.json"
    found = dioe(
        "verify", "--device", "cpu", "--backend", "reference", "--output", file,
        "--check", "correctness.declarations", "--check", "transfers", "--check", "graphs",
        "--check", "timings",
    )  # fmt: skip
    assert found.code == 0, found.err
    assert found.err == ""
    assert json.loads(file.read_text()) == found.json
    said = found.json
    assert said["format"] == "dioe-verification"
    assert said["device"]["id"] == "cpu"
    assert said["machine"]["fingerprint"]
    assert said["verdict"] == {"ok": True, "problems": []}
    part = said["backends"]["reference"]
    assert part["correctness"]["sections"]["declarations"]["covered"] >= 7
    assert part["correctness"]["failures"] == []
    assert part["graphs"]["state"] == "not offered"
    copies = part["transfers"]["copies"]
    assert {copy["way"] for copy in copies} == {
        "host to device", "device to host", "device to device",
    }  # fmt: skip
    assert all(copy["equal"] and copy["p50_ms"] > 0 and copy["gbps"] > 0 for copy in copies)
    (timing,) = part["timings"]["models"]
    assert timing["relative_l2"] <= timing["limit"]
    assert timing["p50_ms"] > 0
    again = dioe("verify", "--device", "cpu", "--backend", "reference", "--output", file,
                 "--check", "transfers")  # fmt: skip
    assert again.code == 0  # a report may be replaced
    file.write_text("{}")
    is_told(dioe("verify", "--device", "cpu", "--output", file), 11, file)


def test_a_device_beside_the_cpu(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(OnGpu("acme"))
    found = dioe("verify", "--device", "gpu:0", "--check", "timings").json
    (timing,) = found["backends"]["acme"]["timings"]["models"]
    assert timing["cpu"]["backend"] == "onnxruntime"
    assert timing["speedup"] > 0


def test_simulated_times_are_compared_with_nothing(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Simulated("acme"))
    found = dioe("verify", "--device", "gpu:0", "--check", "timings")
    (timing,) = found.json["backends"]["acme"]["timings"]["models"]
    assert timing["known_as"] == found.json["backends"]["acme"]["known_as"] == "simulated"
    assert "cpu" not in timing
    assert "speedup" not in timing
    assert "measured" not in found.out


def test_wrong_results_fail(dioe: Dioe, use_backends: UseBackends) -> None:
    def wrong(outputs: dict[str, Value]) -> dict[str, Value]:
        return {name: np.asarray(value) + 1 for name, value in outputs.items()}

    use_backends(OnGpu("acme", during=wrong))
    found = dioe("verify", "--device", "gpu:0", "--check", "timings")
    assert found.code == 1
    assert found.json["verdict"]["ok"] is False
    (problem,) = found.json["verdict"]["problems"]
    assert problem.startswith("acme: timings failed: tiny: relative_l2 is ")


class LossyContext(ToyContext):
    def copy(self, src: Buffer, dst: Buffer) -> Event:
        done = super().copy(src, dst)
        dst.numpy().flat[0] += 1
        return done


class Lossy(OnGpu):
    def open(self, device: str, resources: Resources) -> ToyContext:
        return LossyContext(self, device, resources)


def test_lost_bytes_fail(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Lossy("acme"))
    found = dioe("verify", "--device", "gpu:0", "--check", "transfers")
    assert found.code == 1
    assert len(found.json["verdict"]["problems"]) == 6  # two sizes, three ways
    assert "other bytes" in found.json["verdict"]["problems"][0]


class Breaking(OnGpu):
    def open(self, device: str, resources: Resources) -> ToyContext:
        raise RuntimeError("the driver\nis broken")


def test_whatever_a_backend_raises_is_a_finding(dioe: Dioe, use_backends: UseBackends) -> None:
    use_backends(Breaking("acme"))
    found = dioe("verify", "--device", "gpu:0", "--check", "transfers", "--check", "timings")
    assert found.code == 1
    assert (
        "acme: transfers failed: RuntimeError: the driver is broken"
        in (found.json["verdict"]["problems"])
    )


class NoRoom(ToyContext):
    def alloc(self, spec: Any) -> Buffer:
        if spec.shape[0] > 1024:
            raise OutOfMemory("full", place="gpu:0")
        return super().alloc(spec)


def test_copies_end_where_there_is_no_room() -> None:
    context = NoRoom(ToyBackend(), "cpu", Resources())
    found = check_transfers(context, sizes=(1024, 2048, 4096), seconds=0.001)
    assert [entry["nbytes"] for entry in found] == [1024, 1024, 1024, 2048]
    assert "full" in found[-1]["reason"]


class Capturing(OnGpu):
    """Says that it captures graphs; ``says`` is what its requests say of theirs."""

    says = ""

    def capabilities(self, device: str) -> Capabilities:
        return Capabilities(graph_capture=True)

    def open(self, device: str, resources: Resources) -> ToyContext:
        return CapturingContext(self, device, resources)


class CapturingContext(ToyContext):
    def make(self, model: Any, precisions: Precisions, options: Any) -> Any:
        made = super().make(model, precisions, options)
        backend = self.backend
        assert isinstance(backend, Capturing)
        make_request = made.request

        def request() -> Any:
            found: Any = make_request()
            found.graph_note = backend.says
            bind = found.bind

            def on_host(inputs: Any, outputs: Any = None) -> None:
                plain = [
                    {k: getattr(v, "array", v) for k, v in (values or {}).items()}
                    for values in (inputs, outputs)
                ]
                bind(*plain)

            found.bind = on_host
            return found

        made.request = request  # type: ignore[method-assign]
        return made


def test_graphs() -> None:
    place, known_as = Place(Capturing("acme"), "gpu:0"), KnownAs.HARDWARE
    (found,) = check_graphs(place, known_as, [tiny()], budget_s=0.05)
    assert found["captured"]
    assert found["relative_l2"] <= found["limit"]
    assert found["rebound_relative_l2"] <= found["limit"]
    assert found["speedup"] == pytest.approx(found["eager"]["p50_ms"] / found["replayed"]["p50_ms"])
    (simulated,) = check_graphs(place, KnownAs.SIMULATED, [tiny()], budget_s=0.05)
    assert simulated["replayed"]["p50_ms"] > 0
    assert simulated["known_as"] == "simulated"
    assert "speedup" not in simulated


def test_what_isnt_captured_says_so() -> None:
    backend = Capturing("acme")
    backend.says = "an op waits for the device"
    (found,) = check_graphs(Place(backend, "gpu:0"), KnownAs.HARDWARE, [tiny()], budget_s=0.05)
    assert not found["captured"]
    assert found["note"] == backend.says
    assert "replayed" not in found


def test_requests_that_tell_nothing_of_graphs() -> None:
    context = ToyContext(ToyBackend(), "cpu", Resources())
    request = context.compile(perceptron(1, 8), Precisions(), {}).request()
    assert capture_of(request) == (False, "the backend doesn't tell")


def test_what_cant_be_run_has_a_reason() -> None:
    def fail(outputs: dict[str, Value]) -> dict[str, Value]:
        raise BackendError("out of order")

    place = Place(OnGpu("acme", during=fail), "gpu:0")
    (timed,) = check_timings(place, KnownAs.HARDWARE, None, [tiny()], budget_s=0.05)
    (captured,) = check_graphs(place, KnownAs.HARDWARE, [tiny()], budget_s=0.05)
    assert timed["reason"] == captured["reason"] == "out of order"


def test_the_cpu_to_compare_with(use_backends: UseBackends) -> None:
    registry = use_backends(ToyBackend("acme")).registry
    found = cpu_place(registry)
    assert found is not None
    assert found.backend.name == "onnxruntime"
    alone = use_backends(ToyBackend("acme"), OnGpu("bolt"), installed=["reference"]).registry
    found = cpu_place(alone)
    assert found is not None
    assert found.backend.name == "acme"  # not the last resort
    assert cpu_place(use_backends(OnGpu("bolt"), installed=[]).registry) is None


def test_a_kit_that_ends_early_is_told_by_its_last_words() -> None:
    found = kit.run_kit("nosuch", "cpu", sections=["declarations"], timeout_s=60)
    assert found["state"] == "crashed"
    assert "exit code 4" in found["reason"]
    assert "no installed plugin provides a backend 'nosuch'" in found["reason"]
    late = kit.run_kit("reference", "cpu", sections=["declarations"], timeout_s=0.01)
    assert late["state"] == "timed out"
    assert "0.01 s" in late["reason"]


def test_the_verdict_names_what_failed() -> None:
    failure = {"test": "nodes::test_node[fp32-add]", "reason": "error 0.3"}
    backends: dict[str, dict[str, Any]] = {
        "acme": {
            "correctness": {"state": "failed", "reason": "", "failures": [failure]},
            "graphs": {"state": "not offered", "reason": ""},
        },
        "bolt": {"correctness": {"state": "crashed", "reason": "the process died of SIGSEGV"}},
    }
    assert report.verdict(backends) == {
        "ok": False,
        "problems": [
            "acme: correctness failed: nodes::test_node[fp32-add]: error 0.3",
            "bolt: correctness crashed: the process died of SIGSEGV",
        ],
    }
