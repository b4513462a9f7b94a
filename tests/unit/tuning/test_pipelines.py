"""``dioe.compile`` of pipelines: what is tuned, planned and run is what one would run by hand."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dioe
from dioe.planning import pipeline_plan_from_json
from dioe.runtime import Pipeline, Runtime, Session
from dioe.tuning.pipeline_plans import BESIDE, check_pipeline_plan
from dioe.types import (
    Array,
    BackendError,
    Basis,
    FidelityError,
    InputError,
    PipelinePlan,
    PlanMismatch,
    Precision,
    Value,
)
from tests.toys import models
from tests.toys.backend import ToyBackend
from tests.unit.tuning.conftest import UseBackends

DENSE = [models.dense(seed=seed) for seed in (0, 10)]
X = np.random.default_rng(7).standard_normal((5, 8)).astype(np.float32)


def positive(x: Array) -> Array:
    """Rows whose sum is above 0, and always the first."""
    kept = x.sum(axis=1) > 0
    kept[0] = True
    doubled: Array = x[kept] * np.float32(2)
    return doubled


def chain(**settings: Any) -> Pipeline:
    nodes = {"a": DENSE[0], "post": positive, "b": DENSE[1]}
    return Pipeline(nodes, [("a.y", "post.x"), ("post.out", "b.x")], **settings)


def by_hand(x: Array) -> Array:
    return models.dense_output(DENSE[1], positive(models.dense_output(DENSE[0], x)))


def close(value: Value, expected: Array) -> None:
    assert isinstance(value, np.ndarray)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def plan() -> PipelinePlan:
    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0) as session:
        return session.plan


# --- running ------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget_s", [0.0, 1.5])
def test_the_result_is_that_of_the_nodes_by_hand(budget_s: float) -> None:
    with dioe.compile(
        chain(outputs=["a.y"]), sample_inputs={"a.x": X}, tuning_budget_s=budget_s
    ) as session:
        results = session.run({"x": X})
        assert list(results) == ["a.y", "b.y"]
        close(results["a.y"], models.dense_output(DENSE[0], X))
        close(results["b.y"], by_hand(X))
        for rows in (1, 3, 9):  # and with other numbers of rows, here and after the callable
            x = np.random.default_rng(rows).standard_normal((rows, 8)).astype(np.float32)
            close(session.run({"x": x}, ["b.y"])["b.y"], by_hand(x))
        assert session.wait_for_tuning(30)
        assert session.inputs == ("a.x",)
        found = session.plan
    assert pipeline_plan_from_json(found.to_json()) == found
    assert list(found.models["b"].plans[0].shapes.values()) == [
        (len(positive(models.dense_output(DENSE[0], X))), 8)
    ]
    if not budget_s:
        assert found.predicted_ms is found.relative_l2 is None
        assert found.basis is Basis.DEFAULT
        assert "nothing was measured" in found.explain()
        return
    assert found.basis is Basis.MEASURED
    assert found.predicted_ms is not None
    assert found.relative_l2 is not None
    assert found.relative_l2 <= 1e-4
    costs = found.costs
    assert list(costs) == ["a", "post", "b"]
    assert all(cost is not None and cost.runs >= 5 and cost.p50_ms > 0 for cost in costs.values())
    shares = [found.share(node) or 0.0 for node in costs]
    assert sum(shares) == pytest.approx(1)
    text = found.explain()
    for word in ("a -> post -> b", "post: host", "a: cpu/", "as it was tuned alone", "%"):
        assert word in text


def step_values() -> dict[str, Callable[..., Any]]:
    def add(a: Array, b: Array) -> Array:
        return a + b

    def both(a: Array) -> dict[str, Array]:
        return {"out": a * np.float32(0.5), "rest": -a}

    def rows(a: Array, b: Array) -> Array:
        return np.concatenate([a, b])[: len(a)]

    return {"add": add, "both": both, "rows": rows}


KINDS: dict[str, Any] = {
    "dense": models.dense(width=4),
    "relu": models.relu("N, 4"),
    "sum": models.parse("g (float[N,4] a, float[N,4] b) => (float[N,4] out) { out = Add(a, b) }"),
    **step_values(),
}
PORTS = {
    "dense": (["x"], ["y"]), "relu": (["x"], ["y"]), "sum": (["a", "b"], ["out"]),
    "add": (["a", "b"], ["out"]), "both": (["a"], ["out", "rest"]), "rows": (["a", "b"], ["out"]),
}  # fmt: skip


def evaluated(kind: str, arguments: dict[str, Array]) -> dict[str, Array]:
    if kind == "dense":
        return {"y": models.dense_output(KINDS["dense"], arguments["x"])}
    if kind == "relu":
        return {"y": np.maximum(arguments["x"], 0)}
    if kind == "sum":
        return {"out": arguments["a"] + arguments["b"]}
    given: Any = step_values()[kind](**arguments)
    return given if isinstance(given, dict) else {"out": given}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_random_graphs_of_models_and_callables(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    kinds = {f"n{i}": data.draw(st.sampled_from(sorted(KINDS))) for i in range(count)}
    edges: list[tuple[str, str]] = []
    feeds: dict[str, Array] = {}
    values: dict[str, Array] = {}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for name, kind in kinds.items():
        inputs, outputs = PORTS[kind]
        arguments: dict[str, Array] = {}
        for port in inputs:
            source = data.draw(st.sampled_from([None, *values]))
            if source is None:
                feeds[f"{name}.{port}"] = rng.standard_normal((3, 4)).astype(np.float32)
            else:
                edges.append((source, f"{name}.{port}"))
            arguments[port] = feeds[f"{name}.{port}"] if source is None else values[source]
        made = evaluated(kind, arguments)
        assert set(made) == set(outputs)
        values |= {f"{name}.{port}": value for port, value in made.items()}
    order = data.draw(st.permutations(list(kinds)))
    asked = data.draw(st.lists(st.sampled_from(sorted(values)), unique=True))
    pipeline = Pipeline({name: KINDS[kinds[name]] for name in order}, edges, outputs=asked)
    assert set(pipeline.inputs) == set(feeds)
    used = {source for source, _ in edges}
    with dioe.compile(pipeline, sample_inputs=feeds, tuning_budget_s=0) as session:
        results = session.run(feeds)
        assert set(results) == set(asked) | (values.keys() - used)
        for name, value in results.items():
            close(value, values[name])
        with dioe.compile(pipeline, plan=pipeline_plan_from_json(session.plan.to_json())) as again:
            for name, value in again.run(feeds).items():
                close(value, values[name])


def test_several_threads_at_once() -> None:
    inputs = [np.random.default_rng(i).standard_normal((5, 8)).astype(np.float32) for i in range(4)]
    wrong: list[BaseException] = []

    def work(session: dioe.PipelineSession, x: Array) -> None:
        try:
            for _ in range(50):
                close(session.run({"x": x})["b.y"], by_hand(x))
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            wrong.append(error)

    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0) as session:
        threads = [threading.Thread(target=work, args=(session, x)) for x in inputs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_closing_waits_for_runs_and_ends_all() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(x: Array) -> Array:
        if armed:
            entered.set()
            assert go_on.wait(10)
        return x

    armed: list[int] = []
    pipeline = Pipeline(
        {"a": DENSE[0], "slow": slow, "b": DENSE[1]}, [("a.y", "slow.x"), ("slow.out", "b.x")]
    )
    session = dioe.compile(pipeline, sample_inputs={"x": X}, tuning_budget_s=0)
    armed.append(1)
    results: list[dict[str, Value]] = []
    running = threading.Thread(target=lambda: results.append(session.run({"x": X})))
    running.start()
    assert entered.wait(10)
    closing = threading.Thread(target=session.close)
    closing.start()
    while not session._closed:
        closing.join(0.001)
    with pytest.raises(InputError, match="the session is closed"):
        session.run({"x": X})
    assert closing.is_alive()
    go_on.set()
    for thread in (running, closing):
        thread.join(10)
    close(results[0]["b.y"], models.dense_output(DENSE[1], models.dense_output(DENSE[0], X)))
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.sessions["a"].run({"x": X})


def test_declared_state() -> None:
    counter = models.parse("""
        g (float[1, 8] x, float[1, 8] total) => (float[1, 8] y, float[1, 8] next) {
            next = Add(x, total)
            y = Identity(next)
        }
    """)
    pipeline = Pipeline(
        {"half": lambda x: x / 2, "count": counter, "text": lambda y: f"{y.sum():.3f}"},
        [("half.out", "count.x"), ("count.y", "text.y")],
    )
    x = X[:1]
    with dioe.compile(
        pipeline, sample_inputs=[{"x": x}] * 2, state={"next": "total"}, tuning_budget_s=1.0
    ) as session:
        for times in (1, 2, 3):
            assert session.run({"x": x}) == {"text.out": f"{(x / 2 * times).sum():.3f}"}
        session.reset_state()
        assert session.run({"half.x": x}, ["text.out"]) == {"text.out": f"{(x / 2).sum():.3f}"}


@pytest.mark.parametrize("budget_s", [0.0, 1.5])
def test_a_callable_loops_over_a_model(budget_s: float) -> None:
    def loop(step: Any, x: Array, rounds: int = 3) -> dict[str, Any]:
        for _ in range(rounds):
            x = step({"x": x})["y"]
        return {"last": x, "rounds": rounds}

    pipeline = Pipeline(
        {"a": DENSE[0], "loop": loop, "step": DENSE[1]},
        [("a.y", "loop.x")],
        calls={"loop.step": "step"},
    )
    with dioe.compile(pipeline, sample_inputs={"a.x": X}, tuning_budget_s=budget_s) as session:
        expected = models.dense_output(DENSE[0], X)
        for _ in range(3):
            expected = models.dense_output(DENSE[1], expected)
        results = session.run({"a.x": X})
        close(results["loop.last"], expected)
        assert results["loop.rounds"] == 3
        plan = session.plan
    assert plan.order == ("a", "loop")
    assert plan.called == ("step",)
    assert plan.models["step"].plans[0].shapes["x"] == (5, 8)
    assert list(plan.costs) == ["a", "loop", "step"]
    if budget_s:
        assert "step: cpu/" in plan.explain()
        assert "(called)" in plan.explain()
    with dioe.compile(pipeline, plan=plan) as session:
        close(session.run({"a.x": X})["loop.last"], expected)


# --- what goes wrong ----------------------------------------------------------------------------


class Odd(Exception):
    pass


@pytest.mark.parametrize("error", [Odd("no boxes"), KeyboardInterrupt()])
@pytest.mark.parametrize("when", [1, 2, 3, 8])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_callable_raises_is_passed_on_and_nothing_is_left(
    use_backends: UseBackends, error: BaseException, when: int
) -> None:
    toy = ToyBackend()
    runtime = use_backends(toy)
    calls = []

    def post(x: Array) -> Array:
        calls.append(1)
        if len(calls) == when:
            raise error
        return x

    pipeline = Pipeline({"a": DENSE[0], "post": post, "b": DENSE[1]},
                        [("a.y", "post.x"), ("post.out", "b.x")])  # fmt: skip

    def compile_and_run() -> None:
        with dioe.compile(
            pipeline, sample_inputs={"x": X}, tuning_budget_s=0.5, devices=["cpu/toy"]
        ) as session:
            for _ in range(9):
                session.run({"x": X})

    with pytest.raises(type(error)) as caught:
        compile_and_run()
    assert caught.value is error
    assert "in node 'post' of the pipeline" in caught.value.__notes__
    error.__notes__.clear()
    assert not runtime._contexts
    assert toy.count("open") == toy.count("close context")
    assert toy.count("compile") == toy.count("close executable")


def test_values_that_are_not_a_models_are_errors_with_its_node() -> None:
    wide = Pipeline({"cast": lambda x: x.astype(np.float64), "a": DENSE[0]}, [("cast.out", "a.x")])
    with pytest.raises(InputError, match=r"float64.*float32") as caught:
        dioe.compile(wide, sample_inputs={"cast.x": X}, tuning_budget_s=0)
    assert caught.value.place == "node 'cast'"


def test_samples_that_cannot_be() -> None:
    pipeline = Pipeline({"f": positive, "a": DENSE[0]}, [("f.out", "a.x")])
    with pytest.raises(InputError, match=r"made up for 'f\.x'"):
        dioe.compile(pipeline, tuning_budget_s=0)
    with pytest.raises(InputError, match="sample_inputs is a int"):
        dioe.compile(pipeline, sample_inputs=3, tuning_budget_s=0)  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"missing input: f\.x"):
        dioe.compile(pipeline, sample_inputs={}, tuning_budget_s=0)


def test_inputs_of_models_alone_are_made_up() -> None:
    with dioe.compile(chain(), tuning_budget_s=0) as session:
        assert any("made up" in note for note in session.plan.models["a"].plans[0].notes)
        close(session.run({"x": X})["b.y"], by_hand(X))


def test_an_output_that_is_another_each_time_is_no_pipelines() -> None:
    seen: list[int] = []

    def count(y: Array) -> int:
        seen.append(1)
        return len(seen)

    pipeline = Pipeline({"a": DENSE[0], "count": count}, [("a.y", "count.y")])
    with pytest.raises(FidelityError, match=r"count\.out") as caught:
        dioe.compile(pipeline, sample_inputs={"x": X}, tuning_budget_s=0.3)
    assert "tuning_budget_s=0" in caught.value.fix
    assert "callables that lead to it (count)" in caught.value.fix
    dioe.compile(pipeline, sample_inputs={"x": X}, tuning_budget_s=0).close()


def test_no_limit_is_advised_where_an_output_has_another_shape_each_time() -> None:
    rows = itertools.chain([1], itertools.repeat(2))
    pipeline = Pipeline(
        {"a": DENSE[0], "some": lambda y: y[: next(rows)], "b": DENSE[1], "end": lambda y: y},
        [("a.y", "some.y"), ("some.out", "b.x")],
    )
    with pytest.raises(FidelityError, match=r"b\.y.* shape \[") as caught:
        dioe.compile(pipeline, sample_inputs={"x": X, "end.y": X}, tuning_budget_s=0.3)
    assert "callables that lead to it (some)" in caught.value.fix
    assert "max_relative_l2" not in caught.value.fix


@pytest.mark.parametrize("empty", [True, False])
def test_a_whole_that_tells_nothing_lowers_nothing(use_backends: UseBackends, empty: bool) -> None:
    def computed_in(precision: Precision, values: list[Value]) -> list[Value]:
        if precision is Precision.FP32:
            time.sleep(1e-3)
            return values
        return [np.asarray(v) * np.float32(1.001) for v in values]

    toy = ToyBackend(precisions=(Precision.FP32, Precision.BF16))
    toy.adjust = computed_in
    use_backends(toy)
    nodes = {"a": DENSE[0], "end": lambda y: y[:0] if empty else y * np.float32(np.nan)}
    pipeline = Pipeline(nodes, [("a.y", "end.y")])
    with dioe.compile(
        pipeline, sample_inputs={"x": X}, precision="auto", tuning_budget_s=0.6,
        devices="cpu/toy",
    ) as session:  # fmt: skip
        plan = session.plan
    assert plan.where("a") == "cpu/toy/fp32"
    assert plan.relative_l2 is None
    assert any("empty or NaN throughout" in n and "end.out" in n for n in plan.notes)


def test_lower_precision_that_changes_the_whole_is_given_up(use_backends: UseBackends) -> None:
    toy = ToyBackend(precisions=(Precision.FP32, Precision.BF16))
    toy.adjust = lambda p, values: [
        np.asarray(v) * np.float32(1 if p is Precision.FP32 else 1.005) for v in values
    ]
    use_backends(toy)

    def amplify(y: Array) -> Array:
        parity: Array = np.round(y * 1e3) % 2
        return parity

    pipeline = Pipeline({"a": DENSE[0], "amplify": amplify}, [("a.y", "amplify.y")])
    with dioe.compile(
        pipeline, sample_inputs={"x": X}, tuning_budget_s=1.0, precision="auto", devices=["cpu/toy"]
    ) as session:
        plan = session.plan
    assert plan.models["a"].plans[0].targets == ("cpu/toy/fp32",)
    assert plan.relative_l2 == 0


# --- plans --------------------------------------------------------------------------------------


def test_a_plan_made_before_measures_nothing(plan: PipelinePlan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert dioe.load_plan(path) == plan
    for form in (plan, path, str(path)):
        with dioe.compile(chain(), plan=form) as session:
            assert session.plan == plan
            close(session.run({"x": X})["b.y"], by_hand(X))
    assert "positive" not in path.read_text()  # never code, nor its name


MISMATCHES: dict[str, tuple[Pipeline, str, str]] = {
    "another model": (
        Pipeline(
            {"a": DENSE[0], "post": positive, "b": models.dense(seed=3)},
            [("a.y", "post.x"), ("post.out", "b.x")],
        ),
        "node 'b': plan",
        "made for another model",
    ),
    "another edge": (
        Pipeline(
            {"a": DENSE[0], "post": positive, "b": DENSE[1]}, [("a.y", "b.x"), ("b.y", "post.x")]
        ),
        "node '",
        "edge ",
    ),
    "another parameter": (
        Pipeline(
            {"a": DENSE[0], "post": lambda x, least: x, "b": DENSE[1]},
            [("a.y", "post.x"), ("post.out", "b.x")],
        ),
        "node 'post'",
        "is given least, x, in the plan x",
    ),
    "a callable for a model": (
        Pipeline(
            {"a": DENSE[0], "post": positive, "b": positive},
            [("a.y", "post.x"), ("post.out", "b.x")],
        ),
        "node 'b'",
        "has a model of this name",
    ),
    "one more": (
        Pipeline(
            {"a": DENSE[0], "post": positive, "b": DENSE[1], "c": positive},
            [("a.y", "post.x"), ("post.out", "b.x"), ("b.y", "c.x")],
        ),
        "node 'c'",
        "the plan has none",
    ),
    "one more output": (chain(outputs=["a.y"]), "node 'a'", "isn't asked for in the plan"),
    "one edge less": (
        Pipeline({"a": DENSE[0], "post": positive, "b": DENSE[1]}, [("a.y", "post.x")]),
        "node 'b'",
        "edge post.out -> b.x isn't in the pipeline",
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_plan_of_something_else(name: str, plan: PipelinePlan) -> None:
    pipeline, place, message = MISMATCHES[name]
    with pytest.raises(PlanMismatch) as caught:
        dioe.compile(pipeline, plan=plan)
    assert caught.value.place.startswith(place)
    assert message in caught.value.cause
    assert "session.plan.to_json()" in caught.value.fix
    assert "dioe plan" not in caught.value.fix


def test_a_plan_with_other_calls(plan: PipelinePlan) -> None:
    called = replace(plan, calls={"post.net": "b"})
    with pytest.raises(PlanMismatch, match=r"post\.net calls nothing, in the plan b"):
        check_pipeline_plan(called, chain())


def test_plans_of_models_and_of_pipelines_are_told_apart(plan: PipelinePlan) -> None:
    alone = plan.models["a"].plans[0]
    with pytest.raises(PlanMismatch, match="the plan of a model, not of a pipeline"):
        dioe.compile(chain(), plan=alone)
    with pytest.raises(PlanMismatch, match="the plan of a pipeline, not of a model"):
        dioe.compile(DENSE[0], plan=plan)
    for model, found in ((chain(), plan), (DENSE[0], alone)):
        with pytest.raises(InputError, match="the text of a plan") as caught:
            dioe.compile(model, plan=found.to_json())
        assert "session.plan" in caught.value.fix
    with pytest.raises(InputError, match="plan is a int"):
        dioe.compile(chain(), plan=3)  # type: ignore[call-overload]


def test_what_was_tuned_is_found_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call: dict[str, Any] = {"sample_inputs": {"x": X}, "tuning_budget_s": 1.0}
    with dioe.compile(chain(), **call) as session:
        first = session.plan
    with dioe.compile(chain(), **call) as session:
        assert session.plan == first
        close(session.run({"x": X})["b.y"], by_hand(X))
    assert "plan of the pipeline found in the cache" in caplog.text
    with dioe.compile(chain(outputs=["a.y"]), **call) as session:
        assert session.plan != first


def test_pins_name_the_node(use_backends: UseBackends) -> None:
    use_backends(ToyBackend(), installed=("onnxruntime", "reference"))

    def targets(*pins: str, **settings: Any) -> dict[str, str]:
        with dioe.compile(
            chain(), sample_inputs={"x": X}, tuning_budget_s=0, pins=pins, **settings
        ) as session:
            close(session.run({"x": X})["b.y"], by_hand(X))
            return {name: session.plan.where(name) for name in session.plan.costs}

    assert targets("a=cpu/toy") == {
        "a": "cpu/toy/fp32", "post": "host", "b": "cpu/onnxruntime/fp32",
    }  # fmt: skip
    assert targets("b.*=cpu/toy")["b"] == "cpu/toy/fp32"
    mixed = targets("b.type:MatMul=cpu/toy", "b.type:Add=cpu/onnxruntime")["b"]
    assert set(mixed.split(" -> ")) == {"cpu/toy/fp32", "cpu/onnxruntime/fp32"}
    for pins, message in (
        (["post=cpu/toy"], "'post' is a callable"),
        (["nobody.x=cpu/toy"], "names no model"),
        (["b.=cpu/toy"], "names no model"),
        (["b.nothing=cpu/toy"], "matches no op"),
    ):
        with pytest.raises(InputError, match=message):
            targets(*pins)


def test_a_pin_that_is_not_kept_is_told_with_its_node(caplog: pytest.LogCaptureFixture) -> None:
    pins = {"b": "npu:7", "a.type:Add": "npu:7", "a": "cpu"}
    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0, pins=pins) as session:
        notes = {name: node.plans[0].notes for name, node in session.plan.models.items()}
    for node, pin in (("b", "b=npu:7"), ("a", "a.type:Add=npu:7")):
        assert any(note.startswith(f"pin {pin} isn't kept") for note in notes[node])
        assert f"pin {pin} isn't kept" in caplog.text
    assert "pinned: a=cpu" in notes["a"]


def test_a_pools_pins_name_the_node_too() -> None:
    pool = replace(dioe.host_pool(), pins=(("a", "cpu/openvino"),))
    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0, hardware=pool) as session:
        assert session.plan.where("a") == "cpu/openvino/fp32"


# --- choosing -----------------------------------------------------------------------------------


def test_threads_do_not_spin_beside_another_unless_that_is_faster() -> None:
    with dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=1.5) as session:
        plan = session.plan
    assert {report.target for report in plan.candidates} >= {BESIDE}
    chosen = plan.candidates[0]
    assert chosen.relative_l2 == plan.relative_l2
    assert chosen.p50_ms == plan.predicted_ms
    spins = [s.resources.spin for n in plan.models.values() for p in n.plans for s in p.stages]
    assert (chosen.target == BESIDE) == all(spin is False for spin in spins)


def test_one_model_has_nobody_beside_it() -> None:
    pipeline = Pipeline({"a": DENSE[0], "post": positive}, [("a.y", "post.x")])
    with dioe.compile(pipeline, sample_inputs={"x": X}, tuning_budget_s=0.5) as session:
        assert len(session.plan.candidates) == 1


def test_a_backend_that_fails_in_the_whole_is_told(
    use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_backends(ToyBackend())
    real = Session.run

    def broken(self: Session, *args: Any) -> dict[str, Value]:
        if threading.current_thread() is threading.main_thread() and armed:
            raise BackendError("lost")
        return real(self, *args)

    armed: list[int] = []
    from dioe.tuning import pipelines, trial

    rounds = trial.time_surviving

    def arming(*args: Any, **settings: Any) -> Any:
        armed.append(1)
        return rounds(*args, **settings)

    monkeypatch.setattr(pipelines, "time_surviving", arming)
    monkeypatch.setattr(Session, "run", broken)
    with pytest.raises(BackendError, match=r"can't be run.*lost"):
        dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0.5, devices=["cpu/toy"])
    assert not Runtime.current()._contexts


def test_nothing_is_kept_of_a_closed_session() -> None:
    session = dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0)
    result = session.run({"x": X})["b.y"]
    kept = weakref.ref(session)
    session.close()
    del session
    gc.collect()
    assert kept() is None
    close(result, by_hand(X))


def test_json_of_another_version(plan: PipelinePlan) -> None:
    data = json.loads(plan.to_json())
    for change, message in (
        ({"version": 99}, "plan version 99"),
        ({"order": ["a"]}, "order isn't of its nodes"),
        ({"format": "dioe-plan"}, "the plan of a model"),
        ({"format": "other"}, "not a DIOE plan"),
        ({"code": "import os"}, "unknown key"),
        ({"edges": [{"source": "z.y", "destination": "a.x"}]}, "unknown node"),
        ({"tasks": {"post": {"parameters": "x"}}}, "a list is wanted"),
    ):
        with pytest.raises(PlanMismatch, match=message):
            pipeline_plan_from_json(json.dumps(data | change))
    broken = json.loads(plan.to_json())
    broken["models"]["b"]["plans"][0]["stages"] = []
    with pytest.raises(PlanMismatch, match="has no stages") as caught:
        pipeline_plan_from_json(json.dumps(broken))
    assert "node 'b'" in caught.value.place
    assert "session.plan.to_json()" in caught.value.fix
    with pytest.raises(PlanMismatch) as caught:
        pipeline_plan_from_json(json.dumps(data | {"version": 99}))
    assert "session.plan.to_json()" in caught.value.fix


def test_models_come_as_files(tmp_path: Path) -> None:
    onnx.save(DENSE[0], tmp_path / "a.onnx")
    with dioe.compile(
        Pipeline({"a": tmp_path / "a.onnx", "post": positive}, [("a.y", "post.x")]),
        sample_inputs={"x": X}, tuning_budget_s=0,
    ) as session:  # fmt: skip
        close(session.run({"x": X})["post.out"], positive(models.dense_output(DENSE[0], X)))
