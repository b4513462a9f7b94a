"""Random convex partitions of real models over real backends, one of them on a device with a memory
of its own: right outputs, and copies that come to what crosses."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence

import pytest

from dioe.graph import Model, OpGraph, extract
from dioe.precision import compare, error_limit
from dioe.runtime import Runtime, Session
from dioe.types import Plan, Precision
from tests.backend.software_gpu import DEVICE, missing
from tests.system.conftest import GetModel
from tests.toys.stages import staged_plan

HOST = ("onnxruntime", "openvino", "torch")
GPU = f"{DEVICE}/onnxruntime.webgpu"
SMALL = ("ppocr-cls", "magika", "silero", "shufflenet")
"""Those under 5 ms: a GPU in software and ``reference`` are a thousand times slower."""
LARGE = ("ppocr-rec", "ppocr-det", "efficientnet-lite0", "minilm", "minilm-int8", "basic-pitch",
         "densenet121")  # fmt: skip
SEEDS = (1, 2, secrets.randbits(32))
RUNS = 2


def chunks(graph: OpGraph, rng: random.Random, most: int) -> list[list[str]]:
    """The ops in a random topological order, cut at random: every piece is convex."""
    before = {op: len(graph.digraph.pred[op]) for op in graph.ops}
    ready = [op for op, count in before.items() if not count]
    order: list[str] = []
    while ready:
        # mostly the newest: else every value would cross
        pick = len(ready) - 1 if rng.random() < 0.9 else rng.randrange(len(ready))
        op = ready.pop(pick)
        order.append(op)
        for after in graph.digraph.succ[op]:
            before[after] -= 1
            if not before[after]:
                ready.append(after)
    assert len(order) == len(graph.ops)
    cuts = sorted(rng.sample(range(1, len(order)), min(rng.randint(1, most), len(order) - 1)))
    return [order[i:j] for i, j in zip([0, *cuts], [*cuts, len(order)], strict=True)]


def placed(
    graph: OpGraph, pieces: Sequence[list[str]], places: Sequence[str], runtime: Runtime,
    rng: random.Random,
) -> list[tuple[str, list[str]]]:  # fmt: skip
    """Each piece on the first backend, in a random order, that says it takes all of it."""
    found = []
    for i, ops in enumerate(pieces):
        piece = extract(graph, ops, f"s{i}")
        # the device as often as all others together
        tried = [*rng.sample(places, len(places)), "reference"]
        if GPU in tried and rng.random() < 0.5:
            tried.insert(0, GPU)
        for place in tried:
            device, _, name = place.rpartition("/")
            support = runtime.registry.backend(name).query(piece, device or "cpu", Precision.FP32)
            if support.whole:
                found.append((place, ops))
                break
        else:
            raise AssertionError(f"nobody takes {ops}")
    return found


def crossing(graph: OpGraph, plan: Plan) -> dict[tuple[str, str, str], int | None]:
    """What each run has to copy, by the partition alone: a value's bytes, by its way; None where
    its shape depends on data."""
    homes = {op: stage.target.device for stage in plan.stages for op in stage.ops}
    outputs = {spec.name for spec in graph.model.outputs}
    makers = {value: op for op in graph.ops for value in graph.ops[op].outputs}
    found = {}
    for name in {value for stage in plan.stages for value in (*stage.inputs, *stage.outputs)}:
        home = homes[makers[name]] if name in makers else "cpu"
        away = {s.target.device for s in plan.stages if name in s.inputs} - {home}
        if home == DEVICE and name in outputs:
            away.add("cpu")
        found.update({(name, home, there): graph.values[name].nbytes for there in away})
    return found


def check_partitions(
    get: GetModel, name: str, runtime: Runtime, places: Sequence[str], most: int
) -> int:
    """Run random partitions of a model; gives how many stages were on the device."""
    real = get(name)
    feed = real.feeds[0]
    (answer,) = real.answers([feed])
    shapes = {key: array.shape for key, array in feed.items()}
    model = Model.load(real.path)
    bound = model.with_shapes(shapes)
    graph = OpGraph.build(bound)
    limit = error_limit("fp32", quantised=model.quantised, max_relative_l2=None)
    on_device = 0
    for seed in SEEDS:
        rng = random.Random(seed)
        parts = placed(graph, chunks(graph, rng, most), places, runtime, rng)
        plan = staged_plan(model, parts, shapes)
        on_device += sum(stage.target.device == DEVICE for stage in plan.stages)
        told = f"seed {seed}: {[(place, len(ops)) for place, ops in parts]}"
        with Session(model, [plan], runtime=runtime) as session:
            for _ in range(RUNS):
                found = compare(session.run(feed, list(answer)), answer)
                assert found.error <= limit, f"{found}; {told}"
            moved = {(t.value, t.source, t.destination): t for t in session.transfers}
            wanted = crossing(graph, plan)
            assert moved.keys() == wanted.keys(), told
            for way, nbytes in wanted.items():
                assert moved[way].count == RUNS, f"{way}; {told}"
                assert nbytes is None or moved[way].nbytes == nbytes, f"{way}; {told}"
    return on_device


@pytest.mark.parametrize("name", SMALL)
def test_partitions_over_all_backends(
    name: str, real_model: GetModel, all_backends: Runtime
) -> None:
    if missing():
        pytest.skip(missing())
    check_partitions(real_model, name, all_backends, (*HOST, "reference", GPU), most=5)


@pytest.mark.parametrize("name", SMALL)
def test_partitions_over_backends_of_the_host(
    name: str, real_model: GetModel, all_backends: Runtime
) -> None:
    assert not check_partitions(real_model, name, all_backends, (*HOST, "reference"), most=8)


@pytest.mark.parametrize("name", LARGE)
def test_partitions_of_larger_models(
    name: str, real_model: GetModel, all_backends: Runtime
) -> None:
    assert not check_partitions(real_model, name, all_backends, HOST, most=6)
