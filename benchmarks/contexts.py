"""Two one-thread contexts on two cores of one process, against one: do they run side by side?

``python -m benchmarks.contexts`` opens a context of one thread on each of two cores, runs a small
convolutional network in both from threads that stay on these cores, and prints how many more runs
a second that makes than one context alone. Alone and together take turns; the figure is the median
over the rounds, beside the same for a thread of plain arithmetic that holds no lock, which is what
the machine had to give.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.zoo.machine import machine_line
from dioe.graph import Model
from dioe.profiling import measuring
from dioe.registry import Registry
from dioe.types import Precisions, Resources

BACKENDS = ("onnxruntime", "openvino")
CHANNELS = 32
LAYERS = 6
SIDE = 48


@dataclass(frozen=True, slots=True)
class Figure:
    """Runs a second of one context and of two, and their ratio: medians over the rounds."""

    backend: str
    cores: tuple[int, ...]
    alone: float
    together: float
    ratio: float
    machine: float  # the ratio of plain arithmetic in the same rounds
    rounds: int


def network() -> Model:
    """Convolutions with He-scaled weights: about two ms a run on a core of a server."""
    rng = np.random.default_rng(0)
    scale = np.sqrt(2 / (9 * CHANNELS))
    nodes, weights, value = [], [], "x"
    for i in range(LAYERS):
        shape = (CHANNELS, CHANNELS, 3, 3)
        array = (rng.standard_normal(shape) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{i}"))
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        value = "y" if i == LAYERS - 1 else f"r{i}"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [value]))
    info = helper.make_tensor_value_info
    size = [1, CHANNELS, SIDE, SIDE]
    x, y = info("x", TensorProto.FLOAT, size), info("y", TensorProto.FLOAT, size)
    graph = helper.make_graph(nodes, "contexts", [x], [y], weights)
    opset = [helper.make_opsetid("", 18)]
    made: onnx.ModelProto = helper.make_model(graph, ir_version=9, opset_imports=opset)
    return Model.load(made)


def rates(works: Sequence[Callable[[], object]], cores: Sequence[int], seconds: float) -> float:
    """Calls a second of all ``works`` at once, each in a thread of its own on its core."""
    start, counts, errors = threading.Barrier(len(works)), [0.0] * len(works), []

    def loop(i: int) -> None:
        try:
            os.sched_setaffinity(0, {cores[i]})  # of this thread only
            works[i]()
            start.wait()
            begin, count = time.perf_counter(), 0
            while (now := time.perf_counter()) - begin < seconds:
                works[i]()
                count += 1
            counts[i] = count / (now - begin)
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            start.abort()
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts)


def arithmetic() -> Callable[[], object]:
    """Work of NumPy outside Python's lock, without memory to fight for."""
    data = np.random.default_rng(1).standard_normal(4096)
    out = np.empty_like(data)

    def work() -> None:
        for _ in range(50):
            np.sin(data, out)

    return work


def measure(backend: str, cores: Sequence[int], rounds: int, seconds: float) -> Figure:
    """One backend's figure; raises UnsupportedError where it can't be used."""
    plugin = Registry().backend(backend)
    model, works, contexts = network(), [], []
    rng = np.random.default_rng(2)
    for core in cores:
        context = plugin.open("cpu", Resources(cores=(core,), threads=1, spin=False))
        contexts.append(context)
        request = context.compile(model, Precisions(), {}).request()
        request.bind({"x": rng.standard_normal((1, CHANNELS, SIDE, SIDE), np.float32)})
        works.append(request.run)
    plain = [arithmetic() for _ in cores]
    alone, together, given = [], [], []
    for _ in range(rounds):
        alone.append(statistics.mean(rates(works[i : i + 1], cores[i:], seconds) for i in (0, 1)))
        together.append(rates(works, cores, seconds))
        given.append(rates(plain, cores, seconds / 4) / rates(plain[:1], cores, seconds / 4))
    for context in contexts:
        context.close()
    ratios = [b / a for a, b in zip(alone, together, strict=True)]
    middle = statistics.median
    return Figure(
        backend,
        tuple(cores),
        round(middle(alone), 1),
        round(middle(together), 1),
        round(middle(ratios), 3),
        round(middle(given), 3),
        rounds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 1 if the machine has fewer than two cores for this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contexts", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each rate (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--backend", action="append", help=f"default: {', '.join(BACKENDS)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        print("two cores are needed", file=sys.stderr)
        return 1
    with measuring():
        figures = [
            measure(name, cores, options.rounds, options.seconds)
            for name in options.backend or BACKENDS
        ]
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return 0
    print(machine_line())
    print("\n| backend | one, runs/s | two, runs/s | two/one | plain arithmetic |")
    print("|---|---|---|---|---|")
    for f in figures:
        print(f"| {f.backend} | {f.alone} | {f.together} | ×{f.ratio} | ×{f.machine} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
