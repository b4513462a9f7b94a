"""Eager torch against Inductor on whole models: what compiling takes, and what it gains.

``python -m benchmarks.inductor`` compiles each model with both backends at the shapes of its first
feed, checks both against ONNX Runtime, and times them in turns. Both compute on the same threads,
so neither has idle ones that disturb the other. Exits with 1 if an output is wrong, or Inductor is
slower than eager torch on more than two of the models that it takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.models import MODELS
from benchmarks.zoo.base import AS_WRITTEN_LIMIT, Feed, ort_run
from benchmarks.zoo.machine import machine_line
from dioe.graph import Model
from dioe.hardware import pool_from, resources_for
from dioe.precision import compare
from dioe.profiling import measuring, time_calls
from dioe.registry import Registry
from dioe.types import Array, DioeError, Executable, Precisions, Request

NAMES = ("ppocr-det", "ppocr-rec", "ppocr-cls", "efficientnet-lite0", "minilm", "densenet121")
EAGER, INDUCTOR = "torch", "torch.inductor"
MOST_SLOWER = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of the rounds in ms, the median of their ratios (over 1: Inductor is faster), what
    compiling took in seconds, errors against ONNX Runtime, and why Inductor refuses if it does."""

    model: str
    eager_ms: float
    inductor_ms: float
    ratio: float
    eager_s: float
    inductor_s: float
    eager_error: float
    inductor_error: float
    reason: str = ""


def compiled(backend: str, model: Model) -> tuple[Executable, float]:
    """The model on the CPU, and what compiling took in seconds."""
    host = next(device for device in pool_from(None).devices if device.id == "cpu")
    context = Registry().backend(backend).open("cpu", resources_for(host))
    start = time.perf_counter()
    return context.compile(model, Precisions(), {}), time.perf_counter() - start


def checked(
    executable: Executable, feed: Feed, answer: Mapping[str, Array]
) -> tuple[Request, float]:
    """A request bound to the feed that ran once, and its error."""
    request = executable.request()
    request.bind(feed)
    request.run().wait()
    return request, compare(request.outputs, answer).error


def measure(name: str, rounds: int, seconds: float) -> Figure:
    """One model's figure."""
    bench = MODELS[name]
    feed: Feed = bench.feeds()[0]
    model = Model.load(bench.path()).with_shapes(bench.shapes)
    answer = ort_run(bench.path())(feed)
    eager, eager_s = compiled(EAGER, model)
    run_eager, error = checked(eager, feed, answer)
    try:
        fused, inductor_s = compiled(INDUCTOR, model)
    except DioeError as problem:
        ms, nan = float(np.median(time_calls(run_eager.run, seconds=seconds))), float("nan")
        return Figure(name, ms, nan, nan, round(eager_s, 1), nan, error, nan, problem.cause)
    run_fused, fused_error = checked(fused, feed, answer)
    times: dict[str, list[float]] = {EAGER: [], INDUCTOR: []}
    for turn in range(rounds):
        order = [(EAGER, run_eager.run), (INDUCTOR, run_fused.run)]
        for backend, run in order if turn % 2 else order[::-1]:
            times[backend].append(float(np.median(time_calls(run, seconds=seconds))))
    ratios = [a / b for a, b in zip(times[EAGER], times[INDUCTOR], strict=True)]
    eager.close()
    fused.close()
    return Figure(
        name,
        round(statistics.median(times[EAGER]), 3),
        round(statistics.median(times[INDUCTOR]), 3),
        round(statistics.median(ratios), 3),
        round(eager_s, 1),
        round(inductor_s, 1),
        error,
        fused_error,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inductor", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"default: {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn (default: 0.5)")
    parser.add_argument("--rounds", type=int, default=8, help="default: 8")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    figures = []
    with measuring():
        for name in options.names or NAMES:
            print(f"{name} ...", file=sys.stderr)
            figures.append(measure(name, options.rounds, options.seconds))
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
    else:
        print(machine_line())
        print("\n| model | eager, ms | Inductor, ms | eager/Inductor | compiling, s | error |")
        print("|---|---|---|---|---|---|")
        for f in figures:
            print(
                f"| {f.model} | {f.eager_ms} | {f.inductor_ms} | ×{f.ratio} | "
                f"{f.eager_s} / {f.inductor_s} | {f.eager_error:.1e} / {f.inductor_error:.1e} |"
                + (f" {f.reason}" if f.reason else "")
            )
    wrong = [f for f in figures if max(f.eager_error, f.inductor_error) > AS_WRITTEN_LIMIT]
    slower = [f for f in figures if f.ratio < 1]
    return int(bool(wrong) or len(slower) > MOST_SLOWER)


if __name__ == "__main__":
    sys.exit(main())
