"""The benchmarks of boundaries and of the decisions' figures, on a scale of milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from benchmarks import boundaries, decisions
from benchmarks.boundaries import Cost, Pair, chain, cut_plan, measure, table
from dioe.graph import Model, OpGraph, rebuild
from dioe.profiling import Round, Timing
from dioe.runtime import Runtime, load
from tests.toys.backend import ToyBackend, registry_of


def timing(*medians_ms: float, noisy: tuple[bool, ...] = ()) -> Timing:
    flags = noisy or (False,) * len(medians_ms)
    return Timing([Round(np.array([ms]), flag) for ms, flag in zip(medians_ms, flags, strict=True)])


@pytest.mark.parametrize("nbytes", [4096, 8192, 1 << 20])
def test_every_value_of_the_chain_has_the_size(nbytes: int) -> None:
    proto = chain(nbytes)
    onnx.checker.check_model(proto, full_check=True)
    values = OpGraph.build(Model.load(proto)).values
    assert {values[name].nbytes for name in ("x", "r0", "r1", "r2", "y")} == {nbytes}


def test_the_chain_is_cut_in_the_middle() -> None:
    backends = [ToyBackend("one"), ToyBackend("two")]
    runtime = Runtime(registry_of(*backends))
    proto = chain(4096)
    model = Model.load(proto)
    graph = OpGraph.build(model)
    plan = cut_plan(graph, ("cpu/one/fp32", "cpu/two/fp32"))
    assert [len(stage.ops) for stage in plan.stages] == [4, 4]
    assert [(b.value, b.nbytes) for b in plan.boundaries] == [("r1", 4096)]
    loaded = load(plan, model, runtime, rebuild(graph, plan).models)
    x = np.random.default_rng(0).random((1, 16, 8, 8), np.float32)
    (y,) = loaded.request().call({"x": x}, ["y"])
    results: Any = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_allclose(np.asarray(y), results[0], rtol=1e-5, atol=1e-5)
    loaded.close()


def test_a_pair_is_measured() -> None:
    runtime = Runtime(registry_of(ToyBackend()))
    (cost,) = measure(4096, runtime, seconds=0.3, targets=["cpu/toy/fp32"])
    assert cost.source == cost.destination == "cpu/toy/fp32"
    assert cost.low <= cost.cost <= cost.high
    assert cost.staged > max(cost.first, cost.second) > 0
    assert cost.rounds >= 1
    runtime.close()


def test_costs_are_of_quiet_rounds_only() -> None:
    pair = Pair("a/b/fp32", "c/d/fp32", 4096, Runtime(registry_of(ToyBackend())))
    disturbed = (False, True, False)
    cost = boundaries._cost(
        pair,
        {
            f"{pair.name} staged": timing(1.0, 9.0, 1.2, noisy=disturbed),
            f"{pair.name} first": timing(0.5, 0.5, 0.6),
            f"{pair.name} second": timing(0.3, 0.3, 0.3),
        },
    )
    assert cost.cost == pytest.approx(250)
    assert cost.low == pytest.approx(225)
    assert cost.high == pytest.approx(275)
    assert cost.rounds == 2
    assert not cost.noisy


def test_the_table_has_a_row_for_each_size_and_a_column_for_each_pair() -> None:
    targets = ("cpu/onnxruntime/fp32", "cpu/openvino/fp32")
    costs = [
        Cost(a, b, size, 10.4, 5.0, 20.0, 100.0, 40.0, 50.0, 9, noisy=size == 4096)
        for size in (4096, 2**20)
        for a in targets
        for b in targets
    ]
    head, _, small, large = table(costs).splitlines()
    assert head.count("→") == 4
    assert "onnxruntime → openvino" in head
    assert small.startswith("| 4 KiB | 10 (5 to 20) of 90, noisy |")
    assert large.startswith("| 1 MiB | 10 (5 to 20) of 90 |")


def test_sizes_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        boundaries.main(["--sizes", "5000"])
    assert "powers of 2" in capsys.readouterr().err


def test_differences_are_taken_round_by_round() -> None:
    timings = {"a": timing(1.0, 1.1, 1.2), "b": timing(0.9, 1.0, 1.1)}
    assert decisions.difference(timings, "a", "b") == "+100 (+100 to +100)"


def test_copying_and_binding_run_on_the_same_contents() -> None:
    runtime = Runtime(registry_of(ToyBackend("openvino")))
    bench = decisions.Bench(runtime, 0.1)
    model = Model.load(chain(4096))
    feeds = {"x": np.random.default_rng(0).random((1, 16, 8, 8), np.float32)}
    with decisions._copying_and_binding(bench, model, feeds) as calls:
        assert list(calls)[:4] == ["same", "copied in", "bound in", "bound out"]
        assert list(calls)[4:] == ["called, results let go of", "called, results kept"]
        for call in calls.values():
            call()
            call()
    runtime.close()


def test_unknown_decisions_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        decisions.main(["0001"])
    assert "0001" in capsys.readouterr().err
