"""PP-OCR's detector over many picture sizes: is every answer right, and is the second pass fast?

``python -m benchmarks.dynamic_shapes`` compiles the detector for one size, runs 20 others once,
waits until they were tuned in the background, and runs them again: each beside a fresh session that
was tuned for exactly that size. It prints a table and a verdict, and exits with 1 if an answer is
wrong, a run fails, or the second pass is over 5 % slower than the fresh sessions: by the median
over the sizes, or at any one of them by more than twice what its rounds differ anyway.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import psutil

from benchmarks.models import MODELS, Feed
from dioe.cli import demo_model
from dioe.precision import compare
from dioe.profiling import Calls, measuring, time_in_rounds
from dioe.types import Array, DioeError

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""

FIRST: Size = (640, 640)
SIZES: tuple[Size, ...] = (
    *((320, 320), (320, 480), (320, 640), (384, 512), (384, 672), (416, 608), (448, 448)),
    *((480, 320), (480, 640), (512, 384), (544, 960), (576, 768), (608, 416), (640, 480)),
    *((704, 512), (736, 736), (768, 576), (800, 608), (960, 544), (960, 960)),
)
"""Multiples of 32 from 320 to 960, upright and lying."""

WRITTEN_LIMIT = 1e-4
MOST_SLOWDOWN = 1.05
AGAIN, FRESH = "second pass", "fresh session"


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen at one size; times in ms."""

    height: int
    width: int
    first_ms: float
    again_ms: float
    fresh_ms: float
    spread_ms: float
    target: str
    fresh_target: str
    basis: str
    error: float

    @property
    def ratio(self) -> float:
        """Time of the second pass for one of the fresh session."""
        return self.again_ms / self.fresh_ms

    @property
    def ok(self) -> bool:
        """False if the second pass is too slow, and not only by what rounds differ anyway."""
        excess_ms = self.again_ms - self.fresh_ms
        return self.ratio <= MOST_SLOWDOWN or excess_ms <= 2 * self.spread_ms


@dataclass(frozen=True, slots=True)
class Both:
    """Two calls timed in turn, on the same memory and in the same seconds."""

    calls: Calls

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Both are open already."""
        yield self.calls


def picture(size: Size) -> Feed:
    """The demo's scanned page, stretched to this size."""
    from PIL import Image

    page = demo_model.open_picture(demo_model.demo_picture())
    stretched = page.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return {demo_model.INPUT: demo_model.normalized(stretched)[np.newaxis]}


def references(feeds: dict[Size, Feed]) -> dict[Size, dict[str, Array]]:
    """Answers by ONNX Runtime with graph optimisations off, without DIOE."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(
        demo_model.demo_model(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return {
        size: dict(zip(names, session.run(names, feed), strict=True))
        for size, feed in feeds.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and judge; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dynamic_shapes", description=main.__doc__
    )
    parser.add_argument("--tuning-budget", type=float, default=20.0, help="seconds (default: 20)")
    parser.add_argument("--fresh-budget", type=float, default=2.0, help="of each fresh session")
    parser.add_argument("--time", type=float, default=1.5, help="seconds of timing for each size")
    parser.add_argument(
        "--compare", default=f"0:{len(SIZES)}", metavar="FROM:TO",
        help="which of the sizes to time beside fresh sessions; all run twice",
    )  # fmt: skip
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--max-relative-l2", type=float)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    first, _, last = options.compare.partition(":")
    try:
        rows, summary = measure(options, SIZES[int(first or 0) : int(last or len(SIZES))])
    except DioeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps({"summary": summary, "sizes": [asdict(row) for row in rows]}, indent=1))
    else:
        _print(rows, summary)
    problems = _problems(rows, summary)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def measure(
    options: argparse.Namespace, compared: Sequence[Size]
) -> tuple[list[Row], dict[str, float]]:
    """Both passes, and the comparison at some of the sizes; the rows and what holds for all."""
    import dioe

    path = MODELS["ppocr-det"].path()
    feeds = {size: picture(size) for size in (FIRST, *SIZES)}
    answers = references(feeds)
    settings = {"precision": options.precision, "max_relative_l2": options.max_relative_l2}
    first_ms: dict[Size, float] = {}
    errors: dict[Size, float] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache:
        _say("compiling for one size")
        with dioe.compile(
            path, sample_inputs=feeds[FIRST], tuning_budget_s=options.tuning_budget,
            cache_dir=cache, **settings,
        ) as session:  # fmt: skip
            limit = session.plan.max_relative_l2 or WRITTEN_LIMIT
            before_bytes = psutil.Process().memory_info().rss
            _say("first pass")
            for size in SIZES:
                start = time.perf_counter()
                outputs = session.run(feeds[size])
                first_ms[size] = (time.perf_counter() - start) * 1e3
                errors[size] = compare(outputs, answers[size]).error
            _say("tuning in the background")
            start = time.perf_counter()
            session.wait_for_tuning()
            tuning_s = time.perf_counter() - start
            grown_bytes = psutil.Process().memory_info().rss - before_bytes
            for size in SIZES:
                error = compare(session.run(feeds[size]), answers[size]).error
                errors[size] = max(errors[size], error)
            for size in compared:
                feed = feeds[size]
                _say(f"{size[0]}x{size[1]} beside a fresh session")
                with (
                    dioe.compile(
                        path, sample_inputs=feed, tuning_budget_s=options.fresh_budget,
                        cache_dir=cache, tune_shapes=False, **settings,
                    ) as fresh,
                    measuring() as locked,
                ):  # fmt: skip
                    calls: Calls = {
                        AGAIN: partial(session.run, feed),
                        FRESH: partial(fresh.run, feed),
                    }
                    timings = time_in_rounds(
                        {"both": Both(calls)}, budget_s=options.time, rounds=8, locked=locked
                    )
                    again, new = timings[AGAIN], timings[FRESH]
                    session.run(feed)
                    rows.append(
                        Row(
                            *size, first_ms[size], again.p50_ms, new.p50_ms,
                            max(again.spread_ms, new.spread_ms), " -> ".join(session.plan.targets),
                            " -> ".join(fresh.plan.targets), str(session.plan.basis), errors[size],
                        )
                    )  # fmt: skip
            variants = len(session.plans)
    summary = {
        "runs": 2.0 * len(SIZES),
        "worst_error": max(errors.values()),
        "limit": limit,
        "tuning_s": tuning_s,
        "variants": float(variants),
        "grown_mib": grown_bytes / 2**20,
        "median_ratio": statistics.median(row.ratio for row in rows) if rows else 1.0,
    }
    return rows, summary


def _problems(rows: Sequence[Row], summary: dict[str, float]) -> list[str]:
    problems = []
    if not summary["worst_error"] <= summary["limit"]:
        problems.append(f"an answer is wrong: error {summary['worst_error']:.2g}")
    if summary["median_ratio"] > MOST_SLOWDOWN:
        problems.append(f"the second pass takes {summary['median_ratio']:.3f} of a fresh session")
    problems += [
        f"{row.height}x{row.width}: the second pass takes {row.ratio:.3f} of a fresh session"
        for row in rows
        if not row.ok
    ]
    return problems


def _print(rows: Sequence[Row], summary: dict[str, float]) -> None:
    print("| size | first run | second pass | fresh session | ratio | target | cost | error |")
    print("|---|---:|---:|---:|---:|---|---|---:|")
    for row in rows:
        target = row.target if row.target == row.fresh_target else f"{row.target} (fresh: "
        target += "" if row.target == row.fresh_target else f"{row.fresh_target})"
        print(
            f"| {row.height}x{row.width} | {row.first_ms:.1f} | {row.again_ms:.2f} "
            f"| {row.fresh_ms:.2f} | {row.ratio:.3f} | {target} | {row.basis} | {row.error:.1e} |"
        )
    print(
        f"\nTimes in ms. {summary['runs']:.0f} runs, none failed; worst error "
        f"{summary['worst_error']:.1e} (limit {summary['limit']:g}). Tuning in the background took "
        f"{summary['tuning_s']:.1f} s and {summary['grown_mib']:.0f} MiB for "
        f"{summary['variants']:.0f} variants. Median ratio {summary['median_ratio']:.3f}: "
        + ("as fast as fresh sessions." if not _problems(rows, summary) else "NOT within 5 %.")
    )


def _say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
