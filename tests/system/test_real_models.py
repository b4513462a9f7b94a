"""Real models, end to end: what DIOE chooses follows the model as written and does its job."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dioe
from benchmarks.models import MODELS, Feed
from dioe.graph import Model, OpGraph, boundaries, stage_io
from dioe.planning import choose
from dioe.precision import compare, error_limit
from dioe.runtime import Session
from dioe.types import Array, Plan, Precision, Resources, Stage, Target, UnsupportedError
from tests.system.conftest import GetModel, RealModel
from tests.toys.plans import plan_for
from tests.toys.values import close, tensor
from tests.unit.tuning.test_bench import check_document

QUICK = ("ppocr-cls", "ppocr-det", "magika", "silero", "efficientnet-lite0")
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]


def worst_error(session: Session, model: RealModel, feeds: list[Feed] | None = None) -> float:
    """The largest error of any output over the feeds, state fed explicitly."""
    feeds = feeds or model.feeds
    answers = model.answers(feeds)
    found = [compare(session.run(f, list(a)), a) for f, a in zip(feeds, answers, strict=True)]
    return max(comparison.error for comparison in found)


def runner(session: Session) -> Any:
    """``session.run`` for a model's own check, which hands the state round itself."""
    names = [spec.name for spec in session.model.outputs]
    return lambda feed: session.run(feed, names)


def limit_of(plan: Plan, model: Model) -> float:
    return error_limit(plan.precision, quantised=model.quantised, max_relative_l2=None)


@pytest.mark.parametrize("name", EACH)
def test_the_session_follows_the_model_as_written(
    real_model: GetModel, tmp_path: Path, name: str
) -> None:
    model = real_model(name)
    with dioe.compile(
        model.path, sample_inputs=model.feeds[:2], tuning_budget_s=2, cache_dir=tmp_path
    ) as session:
        plan = session.plan
        limit = limit_of(plan, session.model)
        assert worst_error(session, model) <= limit
        evidence = model.about.check(runner(session))
        assert evidence.ok, evidence.text
    assert plan.max_relative_l2 == limit
    assert plan.relative_l2 is not None
    assert plan.relative_l2 <= limit
    assert plan.targets == (choose(plan.candidates, limit=limit).target,)
    assert [len(stage.ops) for stage in plan.stages] == [len(session.model.placed_op_ids)]
    assert all(c.reason for c in plan.candidates if c.state != "ok")
    tried = {c.target for c in plan.candidates}
    assert {"cpu/onnxruntime/fp32", "cpu/openvino/fp32", "cpu/reference/fp32"} <= tried


@pytest.mark.parametrize("name", EACH)
def test_lower_precision_stays_within_the_limit_and_does_the_job(
    real_model: GetModel, tmp_path: Path, name: str
) -> None:
    model = real_model(name)
    with dioe.compile(
        model.path, sample_inputs=model.feeds[:4], precision="auto", tuning_budget_s=2,
        cache_dir=tmp_path,
    ) as session:  # fmt: skip
        limit = limit_of(session.plan, session.model)
        assert worst_error(session, model, model.feeds[:4]) <= limit
        assert model.about.check(runner(session)).ok
    for candidate in session.plan.candidates:
        if candidate.relative_l2 is not None and candidate.state == "ok":
            assert candidate.relative_l2 <= limit


def test_silero_runs_at_other_lengths_too(real_model: GetModel, tmp_path: Path) -> None:
    """OpenVINO can't take its ``If`` nodes with open shapes: another target has to."""
    model = real_model("silero")
    shorter = [f | {"input": np.ascontiguousarray(f["input"][:, 32:])} for f in model.feeds]
    with dioe.compile(
        model.path, sample_inputs=model.feeds, tuning_budget_s=1, cache_dir=tmp_path,
        tune_shapes=False,
    ) as session:  # fmt: skip
        assert worst_error(session, model, [*shorter, *model.feeds]) <= 1e-4
        assert len(session.plans) == 2
    with dioe.compile(
        model.path, sample_inputs=model.feeds, devices="cpu/openvino", tuning_budget_s=1,
        cache_dir=tmp_path,
    ) as session:  # fmt: skip
        assert worst_error(session, model, [*shorter, *model.feeds]) <= 1e-4


def test_openvino_says_why_it_cant_take_silero_with_open_shapes(real_model: GetModel) -> None:
    model = Model.load(real_model("silero").path)
    with pytest.raises(UnsupportedError, match="rank has to be known") as caught:
        Session(model, [plan_for(model, "cpu/openvino/fp32")])
    assert caught.value.place == "openvino"


def test_state_goes_round_silero(real_model: GetModel, tmp_path: Path) -> None:
    """Chunk after chunk, the session's state does what handing it round by hand does."""
    model = real_model("silero")
    state = np.zeros_like(model.feeds[0]["state"])
    expected: list[Array] = []
    for feed in model.feeds:
        (answer,) = model.answers([feed | {"state": state}])
        state = answer["stateN"]
        expected.append(answer["output"])
    chunks = [{"input": feed["input"], "sr": feed["sr"]} for feed in model.feeds]
    with dioe.compile(
        model.path, sample_inputs=chunks, state=model.about.state, tuning_budget_s=0,
        cache_dir=tmp_path,
    ) as session:  # fmt: skip
        bound = session.bind(chunks[0] | {"input": chunks[0]["input"].copy()})
        for _ in range(2):
            for chunk, probability in zip(chunks, expected, strict=True):
                close(tensor(session.run(chunk), "output"), probability)
                tensor(bound.inputs, "input")[:] = chunk["input"]
                close(tensor(bound.run(), "output"), probability)
            session.reset_state()
            bound.reset_state()


@pytest.mark.parametrize("target", ["cpu/onnxruntime", "cpu/openvino"])
def test_other_picture_sizes_are_right(real_model: GetModel, tmp_path: Path, target: str) -> None:
    model = real_model("ppocr-det")
    x = model.feeds[0]["x"]
    sizes = [(640, 640), (320, 480), (224, 640)]
    feeds = [{"x": np.ascontiguousarray(x[:, :, :h, :w])} for h, w in sizes]
    with dioe.compile(
        model.path, sample_inputs=feeds[0], devices=target, tuning_budget_s=0, cache_dir=tmp_path
    ) as session:
        assert worst_error(session, model, [*feeds, *reversed(feeds)]) <= 1e-4
        assert session.plans[0].shapes["x"] == (1, 3, 640, 640)
        assert len(session.plans) == 2


def staged(model: Model, feed: dict[str, Array], backends: list[str]) -> Plan:
    """The ops in order, cut into as many stages as there are backends."""
    shapes = {name: array.shape for name, array in feed.items()}
    graph = OpGraph.build(model, shapes)
    stages = []
    for i, ops in enumerate(np.array_split(np.array(graph.ids, dtype=object), len(backends))):
        inputs, outputs = stage_io(graph, ops)
        resources = Resources(spin=False)
        target = Target("cpu", backends[i])
        stages.append(Stage(f"s{i}", target, tuple(ops), inputs, outputs, resources=resources))
    whole = plan_for(model, shapes=shapes)
    return replace(whole, stages=tuple(stages), boundaries=boundaries(graph, stages))


@pytest.mark.parametrize("name", ["ppocr-cls", "magika", "ppocr-det"])
def test_stages_on_several_backends_give_the_whole_models_outputs(
    real_model: GetModel, name: str
) -> None:
    model = real_model(name)
    loaded = Model.load(model.path)
    plan = staged(loaded, model.feeds[0], ["openvino", "onnxruntime", "openvino", "onnxruntime"])
    feeds = [feed for feed in model.feeds if feed.keys() == model.feeds[0].keys()][:3]
    with Session(loaded, [plan]) as session:
        assert worst_error(session, model, feeds) <= 1e-4


def dioe_command(*arguments: object) -> Any:
    """Run ``dioe`` as a process of its own; its stdout as JSON."""
    main = "import sys; sys.argv[0] = 'dioe'; from dioe.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", main, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_the_command_does_the_main_job(real_model: GetModel, tmp_path: Path) -> None:
    model = real_model("ppocr-cls")
    x = tmp_path / "x.npy"
    np.save(x, model.feeds[0]["x"])
    found = dioe_command(
        "bench", model.path, "--input", f"x={x}", "--precision", "auto", "--json",
        "--tuning-budget", "1.5", "--time", "1",
    )  # fmt: skip
    check_document(found)
    assert found["plan"]["relative_l2"] <= 1e-2
    states = {t["target"]: t["state"] for t in found["targets"]}
    assert states["cpu/onnxruntime/fp32"] in ("ok", "slow")
    plan = tmp_path / "plan.json"
    written = dioe_command(
        "plan", model.path, "--input", f"x={x}", "--tuning-budget", "0.5", "--json", "-o", plan
    )
    ran = dioe_command(
        "run", model.path, "--input", f"x={x}", "--plan", plan, "--output", tmp_path, "--json"
    )
    assert ran["targets"] == [stage["target"] for stage in written["stages"]]
    (output,) = ran["outputs"]
    (answer,) = model.answers(model.feeds[:1])
    np.testing.assert_allclose(np.load(output["file"]), answer[output["name"]], rtol=1e-3)


def test_precisions_of_the_tables_are_known() -> None:
    """What the benchmark models claim about precisions names precisions that there are."""
    for model in MODELS.values():
        assert set(model.limits) <= set(Precision)
