"""What a boundary between two stages costs, by the targets on both sides and the value's size.

``python -m benchmarks.boundaries`` cuts a chain of small convolutions once in the middle and times
the staged run beside each stage alone, without spinning, in turn within short rounds. It prints, in
Markdown, the time of the staged run less that of both stages: the dispatch, and the caches and
threads that another runtime leaves behind. What fusion and layouts lose by the cut is in the stages
themselves and not in these figures.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.zoo.machine import machine_line
from dioe.graph import Model, OpGraph, boundaries, rebuild, stage_io
from dioe.profiling import (
    Calls,
    Timing,
    measuring,
    preset_outputs,
    time_in_rounds,
    waiting_call,
)
from dioe.runtime import LoadedPlan, Runtime, load
from dioe.types import Array, Executable, Plan, Resources, Stage, Target

TARGETS = ("cpu/onnxruntime/fp32", "cpu/openvino/fp32")
SIZES = tuple(4096 * 4**i for i in range(7))
"""4 KiB to 16 MiB."""

CHANNELS = 16
RESOURCES = Resources(spin=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """One boundary. Times in µs; ``low`` and ``high`` are quartiles over the rounds."""

    source: str
    destination: str
    nbytes: int
    cost: float
    low: float
    high: float
    staged: float
    first: float
    second: float
    rounds: int
    noisy: bool


def chain(nbytes: int, seed: int = 0) -> onnx.ModelProto:
    """Four 1x1 convolutions with Relu between them; every value has ``nbytes`` bytes."""
    pixels = nbytes // (4 * CHANNELS)
    height = 2 ** (pixels.bit_length() // 2)
    shape = (1, CHANNELS, height, pixels // height)
    rng = np.random.default_rng(seed)
    nodes, weights, value = [], [], "x"
    for i in range(4):
        scale = np.sqrt(2 / CHANNELS)
        weight = (rng.standard_normal((CHANNELS, CHANNELS, 1, 1)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], name=f"conv{i}"))
        value = "y" if i == 3 else f"r{i}"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [value], name=f"relu{i}"))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [info("x", TensorProto.FLOAT, shape)],
        [info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model


def cut_plan(graph: OpGraph, targets: Sequence[str], resources: Resources = RESOURCES) -> Plan:
    """As many stages of as many ops as there are targets."""
    edges = [round(i * len(graph.ids) / len(targets)) for i in range(len(targets) + 1)]
    stages = []
    for i, (target, (a, b)) in enumerate(zip(targets, itertools.pairwise(edges), strict=True)):
        ops = graph.ids[a:b]
        reads, gives = stage_io(graph, ops)
        stages.append(Stage(f"s{i}", Target.parse(target), ops, reads, gives, resources=resources))
    return Plan(graph.model.sha256, "", tuple(stages), boundaries(graph, stages))


@dataclass(frozen=True, slots=True)
class Pair:
    """The chain of one size, cut between two targets: the staged run and both stages alone."""

    source: str
    destination: str
    nbytes: int
    runtime: Runtime

    @property
    def name(self) -> str:
        return f"{self.source} > {self.destination}"

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Compile, bind and hand out the calls; close everything afterwards."""
        model = Model.load(chain(self.nbytes))
        graph = OpGraph.build(model)
        plan = cut_plan(graph, (self.source, self.destination))
        loaded = load(plan, model, self.runtime, rebuild(graph, plan).models)
        try:
            yield self._calls(loaded)
        finally:
            loaded.close()

    def _calls(self, loaded: LoadedPlan) -> Calls:
        feeds = {spec.name: _random(spec.shape) for spec in loaded.inputs}
        staged = loaded.request()
        staged.bind(feeds, {spec.name: _random(spec.shape) for spec in loaded.outputs})
        alone = [_alone(executable) for _, executable in loaded.stages]
        calls = [staged.run, *alone]
        return {f"{self.name} {what}": call for what, call in zip(_PARTS, calls, strict=True)}


_PARTS = ("staged", "first", "second")


def _random(shape: Sequence[Any] | None) -> Array:
    return np.random.default_rng(1).random([int(d) for d in shape or ()], np.float32)


def _alone(executable: Executable) -> Any:
    """A stage's fastest call, on buffers of its own."""
    request = executable.request()
    request.bind({s.name: _random(s.shape) for s in executable.inputs}, preset_outputs(executable))
    return waiting_call(request)


def measure(
    nbytes: int, runtime: Runtime, *, seconds: float, targets: Sequence[str] = TARGETS
) -> list[Cost]:
    """The boundaries of one size between every two targets, ``seconds`` each."""
    pairs = [Pair(a, b, nbytes, runtime) for a, b in itertools.product(targets, repeat=2)]
    with measuring() as locked:
        timings = time_in_rounds(
            {pair.name: pair for pair in pairs},
            budget_s=seconds * len(pairs),
            always=[pair.name for pair in pairs],
            locked=locked,
        )
    return [_cost(pair, timings) for pair in pairs]


def _cost(pair: Pair, timings: Mapping[str, Timing]) -> Cost:
    rounds = list(zip(*(timings[f"{pair.name} {part}"].rounds for part in _PARTS), strict=True))
    quiet = [each for each in rounds if not any(part.noisy for part in each)]
    us = np.array([[1e3 * part.median_ms for part in each] for each in quiet or rounds])
    extra = us[:, 0] - us[:, 1] - us[:, 2]
    low, cost, high = (float(each) for each in np.percentile(extra, [25, 50, 75]))
    staged, first, second = (float(each) for each in np.median(us, axis=0))
    return Cost(
        pair.source, pair.destination, pair.nbytes, cost, low, high, staged, first, second,
        len(us), not quiet,
    )  # fmt: skip


def table(costs: Sequence[Cost]) -> str:
    """Costs in µs as a Markdown table: a row for each size, a column for each pair of targets."""
    pairs = list(dict.fromkeys((c.source, c.destination) for c in costs))
    found = {(c.source, c.destination, c.nbytes): c for c in costs}
    short = [" → ".join(target.split("/")[1] for target in pair) for pair in pairs]
    rows = [["value", *short], ["---:"] * (len(pairs) + 1)]
    for nbytes in dict.fromkeys(c.nbytes for c in costs):
        cells = [found[(*pair, nbytes)] for pair in pairs]
        rows.append([_size(nbytes), *map(_cell, cells)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(cost: Cost) -> str:
    alone = cost.first + cost.second
    noisy = ", noisy" if cost.noisy else ""
    return f"{cost.cost:.0f} ({cost.low:.0f} to {cost.high:.0f}) of {alone:.0f}{noisy}"


def _size(nbytes: int) -> str:
    return f"{nbytes // 2**20} MiB" if nbytes >= 2**20 else f"{nbytes // 2**10} KiB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.boundaries", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure (default: 4)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=SIZES,
        help="bytes, multiples of 4096 by powers of 2",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if any(size < 4096 or size & (size - 1) for size in options.sizes):
        parser.error("sizes are powers of 2 from 4096 on")
    costs: list[Cost] = []
    runtime = Runtime()
    try:
        for nbytes in options.sizes:
            print(f"{_size(nbytes)} …", file=sys.stderr, flush=True)
            costs += measure(nbytes, runtime, seconds=options.seconds)
    finally:
        runtime.close()
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=1))
        return 0
    print(table(costs))
    print("\nµs beyond both stages alone (quartiles of the rounds), and what the stages take;")
    print(f"no spinning; {machine_line()}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
