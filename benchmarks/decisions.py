"""The figures that decisions 0003, 0004 and 0006 rest on, taken again on this machine.

``python -m benchmarks.decisions [0003 0004 0006]`` prints them in the order of the pages in
``docs/decisions``. Models are fetched as by ``benchmarks.models``.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import numpy as np

from benchmarks.boundaries import chain
from benchmarks.models import MODELS
from benchmarks.zoo.machine import machine_line
from dioe.graph import Model
from dioe.precision import compare
from dioe.profiling import (
    Calls,
    Timing,
    measuring,
    preset_outputs,
    time_calls,
    time_in_rounds,
    waiting_call,
)
from dioe.runtime import Runtime
from dioe.runtime.loading import SingleStageRequest
from dioe.types import (
    Array,
    Executable,
    Feeds,
    Precision,
    Precisions,
    Request,
    Resources,
    Target,
    Value,
)

QUIET = Resources(spin=False)
AS_COMES = Resources()
SIZES = tuple(16 * 1024 * 4**i for i in range(6))
"""16 KiB to 16 MiB."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs."""

    runtime: Runtime
    seconds: float

    def model(self, name: str) -> tuple[Model, Feeds]:
        """A benchmark model with the shapes of its first inputs bound, and these."""
        about = MODELS[name]
        feeds = about.feeds()[0]
        shapes = {key: array.shape for key, array in feeds.items()}
        return Model.load(about.path()).with_shapes(shapes), dict(feeds)

    @contextlib.contextmanager
    def compiled(
        self, model: Model, target: str, resources: Resources = QUIET, **options: bool
    ) -> Iterator[Executable]:
        """The whole model on a target during the block."""
        parsed = Target.parse(target)
        with self.runtime.context(parsed, resources) as context:
            executable = context.compile(model, Precisions(parsed.precisions[0]), options)
            try:
                yield executable
            finally:
                executable.close()

    def time(self, *contenders: Contender, rounds: int = 15) -> dict[str, Timing]:
        """Their calls, timed in rounds."""
        named = {each.name: each for each in contenders}
        with measuring() as locked:
            return time_in_rounds(
                named,
                budget_s=self.seconds * len(named),
                rounds=rounds,
                always=list(named),
                locked=locked,
            )


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to be timed, from the function that opens it."""

    name: str
    opener: Callable[[], contextlib.AbstractContextManager[Calls]]

    def open(self) -> contextlib.AbstractContextManager[Calls]:
        return self.opener()


def bound(executable: Executable, feeds: Feeds) -> Request:
    """A request with preset buffers."""
    request = executable.request()
    request.bind(feeds, preset_outputs(executable))
    return request


@contextlib.contextmanager
def whole(
    bench: Bench, model: Model, feeds: Feeds, name: str, target: str, resources: Resources
) -> Iterator[Calls]:
    """The whole model on a target as a contender's only call."""
    with bench.compiled(model, target, resources) as executable:
        yield {name: waiting_call(bound(executable, feeds))}


def difference(timings: dict[str, Timing], name: str, base: str) -> str:
    """How much longer one call takes than another, in µs: quartiles over their common rounds."""
    pairs = list(zip(timings[name].rounds, timings[base].rounds, strict=True))
    quiet = [(a, b) for a, b in pairs if not (a.noisy or b.noisy)] or pairs
    us = [1e3 * (a.median_ms - b.median_ms) for a, b in quiet]
    low, median, high = np.percentile(us, [25, 50, 75])
    return f"{median:+.0f} ({low:+.0f} to {high:+.0f})"


# --- 0003: rounds -------------------------------------------------------------------------------


def rounds(bench: Bench) -> None:
    """Spinning after the last call, what it does to a neighbour, what a machine does by itself."""
    for name in ("ppocr-rec", "ppocr-det"):
        _spinning(bench, name)
    for name in ("ppocr-cls", "ppocr-rec"):
        _speeds(bench, name)
    if len(os.sched_getaffinity(0)) > 1:
        print(f"- waking a thread on the other core: {_wake_us():.0f} µs")


def _spinning(bench: Bench, name: str) -> None:
    model, feeds = bench.model(name)
    with (
        bench.compiled(model, "cpu/onnxruntime/fp32", AS_COMES) as spinning,
        bench.compiled(model, "cpu/openvino/fp32", AS_COMES) as other,
    ):
        ours, theirs = waiting_call(bound(spinning, feeds)), waiting_call(bound(other, feeds))
        burnt_ms = []
        for _ in range(5):
            ours()
            before = time.process_time()
            time.sleep(0.3)
            burnt_ms.append(1e3 * (time.process_time() - before))
        print(
            f"- {name}: ONNX Runtime burns {statistics.median(burnt_ms):.0f} ms of processor time "
            "after the last call"
        )
        alone_ms = float(np.median(time_calls(theirs, seconds=bench.seconds)))
        beside_ms = []
        end = time.perf_counter() + bench.seconds
        while time.perf_counter() < end:
            ours()
            before = time.perf_counter()
            theirs()
            beside_ms.append(1e3 * (time.perf_counter() - before))
        print(
            f"- {name} on OpenVINO: {alone_ms:.1f} ms alone, {statistics.median(beside_ms):.1f} "
            "after each call of a spinning ONNX Runtime"
        )
    timings = bench.time(
        *(
            Contender(label, partial(whole, bench, model, feeds, label, _ORT, resources))
            for label, resources in (("spinning", Resources(spin=True)), ("not", QUIET))
        )
    )
    spin_ms, quiet_ms = timings["spinning"].p50_ms, timings["not"].p50_ms
    print(f"- {name} on ONNX Runtime: {spin_ms:.2f} ms spinning, {quiet_ms:.2f} without")


_ORT = "cpu/onnxruntime/fp32"


def _speeds(bench: Bench, name: str) -> None:
    """The medians of successive half seconds of one open executable."""
    model, feeds = bench.model(name)
    with bench.compiled(model, "cpu/openvino/fp32", AS_COMES) as executable:
        call = waiting_call(bound(executable, feeds))
        count = max(4, round(4 * bench.seconds))
        medians = [
            float(np.median(time_calls(call, seconds=0.5, warm=i == 0))) for i in range(count)
        ]
    print(
        f"- {name} on OpenVINO, one executable: {min(medians):.2f} to {max(medians):.2f} ms, by "
        f"half seconds, within {count / 2:g} s"
    )


def _wake_us(trips: int = 2000) -> float:
    """Half of a round trip through pipes to a process on another core."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    here, there = multiprocessing.Pipe()
    echo = multiprocessing.get_context("spawn").Process(target=_echo, args=(there, second, trips))
    echo.start()
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {first})
        times = []
        for _ in range(trips):
            time.sleep(0.0005)  # both have to be asleep
            before = time.perf_counter_ns()
            here.send_bytes(b"x")
            here.recv_bytes()
            times.append((time.perf_counter_ns() - before) / 2e3)
    finally:
        os.sched_setaffinity(0, cores)
        echo.join()
    return statistics.median(times)


def _echo(connection: Connection, core: int, trips: int) -> None:
    os.sched_setaffinity(0, {core})
    for _ in range(trips):
        connection.send_bytes(connection.recv_bytes())


# --- 0004: dynamic quantisation -----------------------------------------------------------------


def quantisation(bench: Bench) -> None:
    """The int8 MiniLM with OpenVINO's default, and without quantised activations."""
    model, feeds = bench.model("minilm-int8")
    with bench.compiled(model, _ORT, optimize=False) as executable:
        expected = _outputs(executable, feeds)
    contenders = []
    for precision, label in ((Precision.INT8, "the default"), (Precision.FP32, "group size 0")):
        target = f"cpu/openvino/{precision}"
        with bench.compiled(model, target) as executable:
            error = compare(_outputs(executable, feeds), expected).error
        print(f"- minilm-int8 on OpenVINO, {label} ({target}): error {error:.2g}")
        contenders.append(
            Contender(label, partial(whole, bench, model, feeds, label, target, AS_COMES))
        )
    for label, timing in bench.time(*contenders).items():
        print(f"- {label}: {timing.p50_ms:.2f} ms")


def _outputs(executable: Executable, feeds: Feeds) -> dict[str, Value]:
    request = executable.request()
    request.bind(feeds)
    request.run().wait()
    return {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in request.outputs.items()}


# --- 0006: copies on OpenVINO -------------------------------------------------------------------


def copies(bench: Bench) -> None:
    """Binding against copying on OpenVINO, by size and on real models."""
    for nbytes in SIZES:
        model = Model.load(chain(nbytes))
        shape = [d for d in model.inputs[0].shape or () if isinstance(d, int)]
        feeds = {"x": np.random.default_rng(0).random(shape, np.float32)}
        _copy_or_bind(bench, f"{nbytes // 1024} KiB, four 1x1 convolutions", model, feeds)
    for name in ("ppocr-cls", "efficientnet-lite0", "ppocr-rec"):
        model, given = bench.model(name)
        nbytes = sum(array.nbytes for array in given.values() if isinstance(array, np.ndarray))
        _copy_or_bind(bench, f"{name}, {nbytes / 1024:.0f} KiB", model, given)


def _copy_or_bind(bench: Bench, label: str, model: Model, feeds: Feeds) -> None:
    opener = partial(_copying_and_binding, bench, model, feeds)
    timings = bench.time(Contender(label, opener))
    base_us = 1e3 * timings["same"].p50_ms
    parts = [f"{what} {difference(timings, what, 'same')}" for what in list(timings)[1:]]
    print(f"- {label}: {base_us:.0f} µs on buffers that stay; " + ", ".join(parts))


@contextlib.contextmanager
def _copying_and_binding(bench: Bench, model: Model, feeds: Feeds) -> Iterator[Calls]:
    """A run on the same buffers; with inputs copied into them; with other inputs or outputs bound
    for each; as a session calls it, by a caller that lets go of results and by one that keeps the
    last."""
    with bench.compiled(model, "cpu/openvino/fp32", AS_COMES) as executable:
        arrays = {n: np.array(array) for n, array in feeds.items() if isinstance(array, np.ndarray)}
        others = [{name: array.copy() for name, array in arrays.items()} for _ in range(2)]
        request = bound(executable, arrays)
        run = request.run

        def copy() -> None:
            for name, array in others[0].items():
                arrays[name][...] = array
            run().wait()

        names = [spec.name for spec in executable.outputs]
        letting_go = SingleStageRequest(executable.request()).call
        keeping = SingleStageRequest(executable.request()).call
        last: list[Value] = []

        def keep() -> None:
            last[:] = keeping(arrays, names)

        moved_in, moved_out = bound(executable, arrays), bound(executable, arrays)
        yield {
            "same": lambda: run().wait(),
            "copied in": copy,
            "bound in": _turning(moved_in, others, ()),
            "bound out": _turning(moved_out, (), [preset_outputs(executable) for _ in range(2)]),
            "called, results let go of": lambda: letting_go(arrays, names),
            "called, results kept": keep,
        }


def _turning(
    request: Request, inputs: Sequence[dict[str, Array]], outputs: Sequence[dict[str, Value]]
) -> Callable[[], object]:
    """Runs with the two sets of arrays bound by turns."""
    turn = 0

    def call() -> None:
        nonlocal turn
        turn = 1 - turn
        request.bind(inputs[turn] if inputs else {}, outputs[turn] if outputs else {})
        request.run().wait()

    return call


DECISIONS = {"0003": rounds, "0004": quantisation, "0006": copies}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decisions", description=__doc__)
    parser.add_argument("decisions", nargs="*", help=f"any of {', '.join(DECISIONS)}; all if none")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure (default: 4)")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.decisions) - set(DECISIONS))
    if unknown:
        parser.error(f"no figures for {', '.join(unknown)}")
    runtime = Runtime()
    try:
        for number in options.decisions or DECISIONS:
            print(f"{number}:", flush=True)
            DECISIONS[number](Bench(runtime, options.seconds))
    finally:
        runtime.close()
    print(f"\n{machine_line()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
