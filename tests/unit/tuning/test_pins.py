"""Pins: ops go where they are told, or it is said why not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

import dioe
from dioe.graph import Model, OpGraph, find_blocks
from dioe.hardware import load_pool, save_pool
from dioe.runtime import Session
from dioe.tuning import trial
from dioe.tuning.pins import parse_pins
from dioe.types import (
    Array,
    Basis,
    ConfigError,
    InputError,
    KnownAs,
    Precision,
    StageModel,
    Support,
)
from dioe.types import UnsupportedError as Unsupported
from tests.toys import models
from tests.toys.device import DeviceToyBackend
from tests.unit.tuning.conftest import UseBackends

TEXT = """
    g (float[4, 8] x) => (float[4, 8] y) {
        a = Relu(x)
        b = MatMul(a, w)
        c = Tanh(b)
        d = MatMul(c, v)
        y = Sigmoid(d)
    }
"""


def two_layers() -> Any:
    rng = np.random.default_rng(1)
    w, v = (rng.standard_normal((8, 8)).astype(np.float32) / 4 for _ in range(2))
    proto = models.with_weights(models.parse(TEXT), w=w, v=v)
    for node, name in zip(
        proto.graph.node, ("relu", "first", "tanh", "second", "out"), strict=True
    ):
        node.name = name
    return proto


def x_of(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((4, 8)).astype(np.float32)


class Picky(DeviceToyBackend):
    """Takes everything but the op types it is told."""

    refused = frozenset({"Sigmoid"})

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        ops = OpGraph.build(model).ops if isinstance(model, Model) else {}
        away = {op: "no such kernel" for op, info in ops.items() if info.op_type in self.refused}
        return Support(frozenset(model.op_ids) - away.keys(), away)


def stages(session: Session) -> dict[str, set[str]]:
    """The ops on each device."""
    found: dict[str, set[str]] = {}
    for stage in session.plan.stages:
        found.setdefault(stage.target.device, set()).update(stage.ops)
    return found


def compiled(**settings: Any) -> Session:
    defaults: dict[str, Any] = {"sample_inputs": {"x": x_of()}, "tuning_budget_s": 1.5}
    session: Session = dioe.compile(two_layers(), **(defaults | settings))
    return session


def check(session: Session) -> None:
    proto = two_layers()
    w, v = (numpy_helper.to_array(tensor) for tensor in proto.graph.initializer)
    for seed in range(2):
        x = x_of(seed)
        y: Any = session.run({"x": x})["y"]
        expected = 1 / (1 + np.exp(-np.tanh(np.maximum(x, 0) @ w) @ v))
        np.testing.assert_allclose(y, expected, rtol=1e-4)


@pytest.mark.parametrize("budget_s", [0, 1.5])
@pytest.mark.parametrize(
    ("pins", "there"),
    [
        ({"first": "gpu:0"}, {"first"}),
        (["relu=gpu:0", "f*=gpu:0/devtoy"], {"relu", "first"}),
        ({"type:MatMul": "gpu:0"}, {"first", "second"}),
        ({"second": "cpu", "*": "gpu:0"}, {"relu", "first", "tanh", "out"}),
    ],
)
def test_pinned_ops_are_where_they_were_told(
    use_backends: UseBackends, pins: Any, there: set[str], budget_s: float
) -> None:
    use_backends(DeviceToyBackend(strict=False))
    with compiled(pins=pins, tuning_budget_s=budget_s) as session:
        found = stages(session)
        check(session)
    assert there <= found["gpu:0"]
    if "second" in pins:
        assert "second" in found["cpu"]
    assert set().union(*found.values()) == {"relu", "first", "tanh", "second", "out"}
    assert any(note.startswith("pinned: ") for note in session.plan.notes)


def test_what_is_pinned_nowhere_stays_off_a_slow_device(use_backends: UseBackends) -> None:
    device = DeviceToyBackend(strict=False)
    device.delay_s = 0.01
    use_backends(device)
    with compiled(pins={"first": "gpu:0"}, tuning_budget_s=8) as session:
        assert {"second", "out"} <= stages(session)["cpu"]
        crossing = {(t.source, t.destination) for t in session.transfers}
        assert not crossing
        check(session)
        moved = {(t.source, t.destination): t.nbytes for t in session.transfers}
    assert moved == {("cpu", "gpu:0"): 4 * 8 * 4, ("gpu:0", "cpu"): 4 * 8 * 4}


def test_a_device_too_slow_for_the_budget_gets_what_is_pinned_to_it(
    use_backends: UseBackends,
) -> None:
    device = DeviceToyBackend(strict=False)
    device.delay_s = 0.3  # a look at the whole model takes 18 s
    use_backends(device)
    start = time.perf_counter()
    with compiled(pins={"first": "gpu:0"}, tuning_budget_s=5) as session:
        assert time.perf_counter() - start < 5 * 1.1 + 1.5
        assert stages(session) == {"gpu:0": {"first"}, "cpu": {"relu", "tanh", "second", "out"}}
        check(session)
        plan = session.plan
    (whole,) = [c for c in plan.candidates if c.target == "gpu:0/devtoy/fp32"]
    assert whole.state == "slow"
    assert whole.known_as is KnownAs.SIMULATED
    assert "(simulated)" in whole.reason
    assert "tuning budget" in whole.reason
    (pinned,) = [block for block in plan.blocks if block.ops == ("first",)]
    assert pinned.cost_ms is not None
    assert pinned.cost_ms == pytest.approx(300, rel=0.1)
    assert pinned.basis is Basis.CORRECTED
    assert any("gpu:0 is a simulated device" in note for note in plan.notes)


def test_a_device_that_is_the_only_one_is_used_however_slow(use_backends: UseBackends) -> None:
    device = DeviceToyBackend(strict=False)
    device.delay_s = 0.03
    use_backends(device)
    with compiled(devices="gpu:0", tuning_budget_s=0.5) as session:
        assert stages(session).keys() == {"gpu:0"}


def test_a_device_that_everything_is_pinned_to_is_used_however_slow(
    use_backends: UseBackends,
) -> None:
    device = DeviceToyBackend(strict=False)
    device.delay_s = 0.03
    use_backends(device)
    text = """
        g (float[4, 8] x) => (float[4, 8] y) {
            one = Constant<value_float = 1.0>()
            a = Relu(x)
            b = Add(a, one)
            c = MatMul(b, w)
            d = Tanh(c)
            e = MatMul(d, w)
            f = MatMul(e, w)
            y = MatMul(f, w)
        }
    """
    model = models.with_weights(models.parse(text), w=models.weights(8, 8))
    with dioe.compile(
        model, pins={"*": "gpu:0"}, sample_inputs={"x": x_of()}, tuning_budget_s=0.5
    ) as session:  # Constants are nobody's to place: that others take them is no way out
        assert stages(session).keys() == {"gpu:0"}


def test_two_slow_devices_share_what_is_pinned_to_them(use_backends: UseBackends) -> None:
    devices = DeviceToyBackend(strict=False), DeviceToyBackend("other", "npu:0", strict=False)
    for device in devices:
        device.delay_s = 0.05
    use_backends(*devices)
    with compiled(pins={"second": "npu:0", "*": "gpu:0"}, tuning_budget_s=1) as session:
        assert stages(session)["npu:0"] == {"second"}
        assert "first" in stages(session)["gpu:0"]
        check(session)


def test_a_pin_that_cannot_be_kept(use_backends: UseBackends) -> None:
    use_backends(Picky(strict=False))
    with compiled(pins={"type:Sigmoid": "gpu:0", "first": "gpu:0"}) as session:
        found = stages(session)
        check(session)
        notes = session.plan.notes
    assert "out" in found["cpu"]
    assert "first" in found["gpu:0"]
    (note,) = [n for n in notes if "isn't kept" in n]
    assert "no such kernel" in note
    with pytest.raises(Unsupported, match="no such kernel") as raised:
        compiled(pins={"type:Sigmoid": "gpu:0"}, strict=True)
    assert raised.value.fix


@pytest.mark.parametrize(
    ("pins", "says"),
    [
        ({"frist": "gpu:0"}, "matches no op"),
        ({"type:Conv": "gpu:0"}, "matches no op"),
        (["first"], "has no '='"),
        (["=gpu:0"], "names no ops"),
        (["first="], "names no target"),
        ("first=gpu:0", "pins is"),
    ],
)
def test_wrong_pins(use_backends: UseBackends, pins: Any, says: str) -> None:
    use_backends(DeviceToyBackend(strict=False))
    with pytest.raises(InputError, match=says) as raised:
        compiled(pins=pins)
    assert raised.value.fix


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("gpu", "'gpu' is no device"),
        ("Gpu:0", "'Gpu:0' is no device"),
        ("foo", "'foo' is no device"),
        ("gpu:0/devtyo", "did you mean 'devtoy'"),
        ("gpu:0/devtyo/fp32", "did you mean 'devtoy'"),
    ],
)
def test_a_pin_to_no_target(use_backends: UseBackends, target: str, says: str) -> None:
    use_backends(DeviceToyBackend(strict=False))
    with pytest.raises(InputError, match=says) as raised:
        compiled(pins={"first": target})
    assert "gpu:0/devtoy/fp32" in raised.value.fix


def test_pins_that_earlier_ones_leave_nothing_to(use_backends: UseBackends) -> None:
    use_backends(DeviceToyBackend(strict=False))
    with compiled(pins={"type:MatMul": "gpu:0", "first": "cpu"}) as session:
        assert stages(session)["gpu:0"] >= {"first", "second"}
        notes = session.plan.notes
    assert "pinned: type:MatMul=gpu:0" in notes
    assert "pin first=cpu has no effect: earlier pins have all its ops" in notes
    assert "pinned: first=cpu" not in notes


@pytest.mark.parametrize("strict", [False, True])
def test_the_last_resort_gets_what_is_pinned_to_it(use_backends: UseBackends, strict: bool) -> None:
    use_backends(DeviceToyBackend(strict=False), installed=("reference",))
    with compiled(pins={"tanh": "cpu/reference"}, strict=strict) as session:
        on = {op: stage.target.backend for stage in session.plan.stages for op in stage.ops}
        check(session)
    assert [op for op, backend in on.items() if backend == "reference"] == ["tanh"]


def test_a_near_name_is_offered(use_backends: UseBackends) -> None:
    use_backends(DeviceToyBackend(strict=False))
    with pytest.raises(InputError) as raised:
        compiled(pins={"frist": "gpu:0"})
    assert "first" in raised.value.fix


def test_a_device_that_is_not_there(use_backends: UseBackends) -> None:
    use_backends(DeviceToyBackend(strict=False))
    with compiled(pins={"first": "npu:0"}) as session:
        assert any("no such target is usable" in note for note in session.plan.notes)
        check(session)
    with pytest.raises(Unsupported, match="no such target"):
        compiled(pins={"first": "npu:0"}, strict=True)


def test_strict_uses_no_unnamed_last_resort(use_backends: UseBackends) -> None:
    use_backends(installed=("reference",))
    with pytest.raises(Unsupported, match="last resort"):
        compiled(strict=True)
    with compiled(strict=True, devices=["cpu/reference"]) as session:
        check(session)


def test_pins_of_a_pool(use_backends: UseBackends, tmp_path: Path) -> None:
    use_backends(DeviceToyBackend(strict=False))
    path = tmp_path / "pool.yaml"
    path.write_text(
        "format: dioe-pool\nversion: 1\n"
        "devices:\n- {id: cpu, kind: cpu}\n- {id: 'gpu:0', kind: gpu}\n"
        "pins: {first: 'gpu:0', 'type:Tanh': 'cpu'}\n"
    )
    with compiled(hardware=path) as session:
        assert "first" in stages(session)["gpu:0"]
        assert "tanh" in stages(session)["cpu"]
    with compiled(hardware=path, pins={"first": "cpu"}) as session:  # those of the call come first
        assert "first" in stages(session)["cpu"]
    again = tmp_path / "again.yaml"
    save_pool(load_pool(path), again)
    assert load_pool(again) == load_pool(path)
    path.write_text(path.read_text().replace("first: 'gpu:0'", "first: [1]"))
    with pytest.raises(ConfigError, match="pins"):
        load_pool(path)


@pytest.mark.parametrize("others", [0.0, 0.5])
def test_a_device_is_tried_on_the_first_blocks_before_the_whole(
    use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch, others: float
) -> None:
    monkeypatch.setattr(trial, "others_share", lambda before, after: others)
    device = DeviceToyBackend(strict=False)
    device.delay_s = 0.1  # not for the others' sake
    use_backends(device)
    with compiled() as session:
        assert set(stages(session)) == {"cpu"}
        (report,) = [c for c in session.plan.candidates if c.target.startswith("gpu:0")]
    assert report.state == "slow"
    assert "of 2 blocks alone take" in report.reason
    assert report.p50_ms is None
    assert device.count("compile") == 1  # never as a whole


def test_a_device_that_the_budget_does_not_suffice_for(
    use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_shown_slow", lambda call, enough_ms: None)  # too much load to tell
    device = DeviceToyBackend(strict=False)
    device.delay_s = 0.1
    use_backends(device)
    with compiled(tuning_budget_s=1.0) as session:
        assert set(stages(session)) == {"cpu"}
        (report,) = [c for c in session.plan.candidates if c.target.startswith("gpu:0")]
    assert report.state == "slow"
    assert "more than is left of the tuning budget" in report.reason
    assert device.count("compile") == 1


def test_a_plan_of_other_pins_is_another(use_backends: UseBackends) -> None:
    use_backends(DeviceToyBackend(strict=False))
    with compiled(pins={"first": "gpu:0"}):
        pass
    with compiled() as session:
        assert set(stages(session)) == {"cpu"}
    with compiled(pins={"second": "gpu:0"}) as session:
        assert "second" in stages(session)["gpu:0"]


def test_blocks_never_join_what_is_pinned_apart() -> None:
    graph = OpGraph.build(Model.load(two_layers()))
    marks = {"tanh": "gpu:0", "second": "gpu:0"}
    blocks = find_blocks(graph, marks)
    assert [op for block in blocks for op in block.ops] == list(graph.ids)
    for block in blocks:
        assert len({marks.get(op, "") for op in block.ops}) == 1
    assert len({block.id for block in blocks}) == len(blocks)


def test_order_of_pins() -> None:
    first, second = parse_pins({"a*": "gpu:0", "ab": "cpu"})
    assert (str(first), str(second)) == ("a*=gpu:0", "ab=cpu")
    assert parse_pins(["x=y=cpu"])[0].pattern == "x=y"
