"""``dioe.compile`` of pipelines: what is run is what one would run by hand."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dioe
from dioe.planning import pipeline_plan_from_json
from dioe.runtime import Pipeline
from dioe.types import (
    Array,
    Basis,
    FidelityError,
    InputError,
    Precision,
    Value,
)
from tests.toys import models
from tests.toys.backend import ToyBackend
from tests.unit.tuning.conftest import UseBackends
from tests.unit.tuning.pipelines import DENSE, X, by_hand, chain, close, positive

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


def test_nothing_is_kept_of_a_closed_session() -> None:
    session = dioe.compile(chain(), sample_inputs={"x": X}, tuning_budget_s=0)
    result = session.run({"x": X})["b.y"]
    kept = weakref.ref(session)
    session.close()
    del session
    gc.collect()
    assert kept() is None
    close(result, by_hand(X))


def test_models_come_as_files(tmp_path: Path) -> None:
    onnx.save(DENSE[0], tmp_path / "a.onnx")
    with dioe.compile(
        Pipeline({"a": tmp_path / "a.onnx", "post": positive}, [("a.y", "post.x")]),
        sample_inputs={"x": X}, tuning_budget_s=0,
    ) as session:  # fmt: skip
        close(session.run({"x": X})["post.out"], positive(models.dense_output(DENSE[0], X)))
