"""Plans over several backends and precisions: do they win where they should?

``python -m benchmarks.mixed`` tunes each case below with nothing known before, in a process of its
own, prints what came of it as a Markdown table, and judges it:

- PP-OCR's recogniser beside an LSTM network in one graph, as written: a plan over two backends, at
  least 1.05 times as fast as the best single target. Beside it stands the ideal: each half alone on
  its best target, timed in the same rounds as the plan.
- PP-OCR's detector on its page, precision lowered within 1e-2: faster than the best fp32 target;
  within 0.03: at least 1.25 times as fast.
- EfficientNet-lite0 and PP-OCR's recogniser within 1e-2: faster than fp32, or no gain and the plan
  says why.
- Every case once more, with what the first run left in its cache: ``profile_s`` under a tenth.

"Faster" is at least 1.03 times as fast: less may be noise.

It exits with 1 if one of these fails. All cases take about 8 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import MODELS
from benchmarks.one import Case, Result, bench_case
from benchmarks.zoo.machine import machine_line
from dioe.graph import Model
from dioe.hardware import host_pool, resources_for
from dioe.planning import plan_from_json
from dioe.profiling import Calls, Contender, Timing, measuring, time_in_rounds
from dioe.runtime import Runtime
from dioe.tuning.bench import NOISY
from dioe.tuning.clock import Stopwatch
from dioe.tuning.plan_trial import PlanContender
from dioe.tuning.targets import Candidate
from dioe.tuning.trial import TargetContender
from dioe.types import BlockReport, DioeError, Plan, Precision, Support, Target

HALVES = ("ppocr-rec", "lstm")
"""What ``rec-lstm`` is made of."""

PLAN = "plan"
FASTER = 1.03
"""The least speed-up that counts. Two timings of the same differ by about 1 % in rounds of separate
processes on a quiet machine; three times that is no chance on one that others use too."""

MOST_WARM = 0.1
"""Of the first run's ``profile_s``."""

_IDEAL_ROUNDS = 8
_WARM_TIME_S = 1.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a case has to show: a speed-up over the best fp32 target, over how many backends, and
    whether a plan that says why it isn't faster will do."""

    case: Case
    least_speedup: float = FASTER
    backends: int = 1
    may_explain: bool = False


CLAIMS: Mapping[str, Claim] = {
    "pair": Claim(Case("rec-lstm"), 1.05, backends=2),
    "det": Claim(Case("ppocr-det", "auto", 1e-2)),
    "det-loose": Claim(Case("ppocr-det", "auto", 0.03), 1.25),
    "efficientnet": Claim(Case("efficientnet-lite0", "auto", 1e-2), may_explain=True),
    "rec": Claim(Case("ppocr-rec", "auto", 1e-2), may_explain=True),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a claim; times in ms, in seconds where the name says ``_s``.

    ``best_ms`` is the best fp32 target's. ``ideal`` is the time of the halves alone for one of the
    plan's, in the same rounds; ``ideal_note`` says what they ran on.
    """

    claim: str
    best_ms: float
    best_target: str
    plan_ms: float
    speedup: float
    error: float | None
    plan: Plan
    notes: tuple[str, ...]
    first_profile_s: float
    second_profile_s: float
    ideal: float | None = None
    ideal_note: str = ""

    @property
    def backends(self) -> int:
        """How many backends the plan uses."""
        return len({stage.target.backend for stage in self.plan.stages})

    @property
    def lowered(self) -> bool:
        """Whether any stage computes in another precision than as written."""
        return any(stage.target.precisions != (Precision.FP32,) for stage in self.plan.stages)

    @property
    def gains(self) -> bool:
        """Whether the plan does what is asked for, and is faster than the best fp32 target by it,
        beyond noise."""
        asked = self.lowered or CLAIMS[self.claim].case.max_relative_l2 is None
        return asked and self.speedup >= FASTER

    @property
    def excuse(self) -> str:
        """What the plan says on why it gains nothing, where precision may be lowered on why it
        isn't; empty if it doesn't."""
        lowers = CLAIMS[self.claim].case.max_relative_l2 is not None
        return "; ".join(n for n in self.notes if n != NOISY and ("lower" in n or not lowers))

    @property
    def verdict(self) -> str:
        """What isn't as claimed; else ``faster``, or ``no gain`` with the plan's own reason."""
        if self.failures:
            return "; ".join(self.failures)
        return "faster" if self.gains else f"no gain: {self.excuse}"

    @property
    def failures(self) -> list[str]:
        """What isn't as claimed."""
        claim = CLAIMS[self.claim]
        limit = claim.case.max_relative_l2
        found = []
        excused = claim.may_explain and not self.lowered and self.excuse
        if not excused:
            if self.speedup < claim.least_speedup:
                short = f"×{self.speedup:.2f}, not ×{claim.least_speedup:.2f}"
                why = f" ({self.excuse})" if self.excuse else ""
                found.append(short if self.gains else f"no gain: {short}{why}")
            if limit is not None and not self.lowered:
                found.append("nothing is lowered, and the plan doesn't say why")
        if self.backends < claim.backends:
            found.append(f"{self.backends} backend, not {claim.backends}")
        if limit is not None and not (self.error is not None and self.error <= limit):
            found.append(f"error {self.error} above {limit:g}")
        if self.second_profile_s >= MOST_WARM * self.first_profile_s:
            found.append(
                f"warm profile_s {self.second_profile_s:.2f} of {self.first_profile_s:.2f}"
            )
        return found


def best_written(result: Result) -> tuple[str, float]:
    """The fastest fp32 target of those that were timed, and its ms."""
    timed = [
        (report["p50_ms"], report["target"])
        for report in result["targets"]
        if report["state"] == "ok" and report["p50_ms"] and report["target"].endswith("/fp32")
    ]
    ms, target = min(timed)
    return target, ms


def outcome(name: str, first: Result, second: Result) -> Outcome:
    """A claim's first and second run, compared with the best fp32 target.

    The speed-up is told by neighbouring rounds where that is the best single target.
    """
    target, best_ms = best_written(first)
    paired = first["best_single"]["target"] == target
    plan_ms = first["plan"]["p50_ms"]
    return Outcome(
        name, best_ms, target, plan_ms,
        first["speedup_over_best_single"] if paired else best_ms / plan_ms,
        first["plan"]["relative_l2"], plan_from_json(json.dumps(first["chosen"])),
        tuple(first["notes"]), first["timings"]["profile_s"], second["timings"]["profile_s"],
    )  # fmt: skip


# --- the ideal --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Named:
    """A contender of one call, under another name."""

    name: str
    contender: Contender

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Open it."""
        with self.contender.open() as calls:
            yield {self.name: next(iter(calls.values()))}


def time_ideal(plan: Plan, targets: Sequence[str], seconds: float) -> dict[str, Timing]:
    """The plan of the pair, and each half on each of the targets, in the same rounds.

    A half's name is ``model on target``. Each contender is alone while it is timed, in its own
    best configuration.
    """
    with contextlib.closing(Runtime()) as runtime, measuring() as locked:
        pair = MODELS["rec-lstm"]
        contenders: dict[str, Contender] = {
            PLAN: PlanContender(
                PLAN, plan, Model.load(pair.path()), pair.feeds()[0], runtime, Stopwatch()
            )
        }
        for half in HALVES:
            for target in targets:
                name = f"{half} on {target}"
                contenders[name] = Named(name, _on_target(half, target, runtime))
        return time_in_rounds(
            contenders, budget_s=seconds, rounds=_IDEAL_ROUNDS, always=list(contenders),
            locked=locked,
        )  # fmt: skip


def _on_target(name: str, target: str, runtime: Runtime) -> TargetContender:
    feeds = MODELS[name].feeds()[0]
    model = Model.load(MODELS[name].path()).with_shapes({n: v.shape for n, v in feeds.items()})
    parsed = Target.parse(target)
    device = next(device for device in host_pool().devices if device.id == parsed.device)
    candidate = Candidate(parsed, resources_for(device), Support(frozenset(model.op_ids)))
    return TargetContender(candidate, model, feeds, runtime, Stopwatch())


def ideal_of(timings: Mapping[str, Timing]) -> tuple[float, str]:
    """The time of the halves, each on its best target, for one of the plan's: the median over the
    rounds; and what they ran on."""
    best = []
    for half in HALVES:
        names = [name for name in timings if name.startswith(f"{half} on ")]
        best.append(min(names, key=lambda name: timings[name].p50_ms))
    rounds = zip(timings[PLAN].rounds, *(timings[name].rounds for name in best), strict=True)
    ratios = [sum(r.median_ms for r in halves) / plan.median_ms for plan, *halves in rounds]
    note = " + ".join(f"{timings[name].p50_ms:.2f} ms {name}" for name in best)
    return float(np.median(ratios)), note


# --- the report -------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune, print and judge; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(CLAIMS)} (default: all)")
    parser.add_argument("--tuning-budget", type=float, default=30.0, help="seconds (default: 30)")
    parser.add_argument("--time", type=float, default=15.0, help="seconds of each final timing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(CLAIMS))
    if unknown:
        parser.error(f"no such claim: {', '.join(unknown)}")
    try:
        outcomes = [
            _measure(name, options.tuning_budget, options.time) for name in options.names or CLAIMS
        ]
    except DioeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps([_as_json(each) for each in outcomes], indent=1))
    else:
        print(table(outcomes))
        print()
        print("\n".join(line for each in outcomes for line in details(each)))
        print(f"\nMedians in ms, batch 1; less than ×{FASTER} is noise; {machine_line()}.")
    return 1 if any(each.failures for each in outcomes) else 0


def _measure(name: str, budget_s: float, time_s: float) -> Outcome:
    case = CLAIMS[name].case
    with tempfile.TemporaryDirectory() as folder:
        _say(case.name)
        first = bench_case(case, Path(folder), budget_s=budget_s, time_s=time_s)
        _say(f"{case.name}, again")
        second = bench_case(case, Path(folder), budget_s=budget_s, time_s=_WARM_TIME_S)
    found = outcome(name, first, second)
    if case.model != "rec-lstm":
        return found
    _say("its halves alone")
    targets = [r["target"] for r in first["targets"] if r["state"] in ("ok", "slow")]
    ideal, note = ideal_of(time_ideal(found.plan, targets, 2 * time_s))
    return Outcome(**{**_fields(found), "ideal": ideal, "ideal_note": note})


def _fields(found: Outcome) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Outcome.__dataclass_fields__}


def _as_json(found: Outcome) -> dict[str, Any]:
    more = {
        "verdict": found.verdict,
        "failures": found.failures,
        "tradeoffs": [asdict(t) for t in found.plan.tradeoffs],
    }
    fields = _fields(found) | {"plan": list(found.plan.targets)}
    return {**fields, **more}


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each claim, in Markdown."""
    head = [
        "case", "best fp32 target", "plan", "speed-up", "needed", "error", "stages",
        "warm profile_s", "verdict",
    ]  # fmt: skip
    cells = [head, ["---", "---", "---:", "---:", "---:", "---:", "---", "---", "---"]]
    for each in outcomes:
        claim = CLAIMS[each.claim]
        cells.append(
            [
                claim.case.name,
                f"{each.best_ms:.2f} {_short(each.best_target)}",
                f"{each.plan_ms:.2f}",
                f"×{each.speedup:.2f}",
                f"×{claim.least_speedup:.2f}" + (" or a reason" if claim.may_explain else ""),
                "–" if each.error is None else f"{each.error:.2g}",
                " → ".join(_short(str(stage.target)) for stage in each.plan.stages),
                f"{each.second_profile_s:.2f} of {each.first_profile_s:.2f}",
                each.verdict,
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def _short(target: str) -> str:
    return target.removeprefix("cpu/").replace("/", " ")


def details(found: Outcome) -> list[str]:
    """What doesn't fit into the table: blocks as written, the curve, the ideal, the notes."""
    lines = [f"{CLAIMS[found.claim].case.name}:"]
    if found.ideal is not None:
        lines.append(
            f"  the ideal takes {found.ideal:.2f} of the plan's time in the same rounds: "
            f"{found.ideal_note}"
        )
    for stage in found.plan.stages:
        cost = "" if stage.predicted_ms is None else f", {stage.predicted_ms:.2f} ms"
        threads = f" on {stage.resources.threads} threads" if stage.resources.threads else ""
        lines.append(f"  {stage.name}: {stage.target}{threads}, {len(stage.ops)} ops{cost}")
    if found.lowered:
        written = as_written(found.plan)
        names = ", ".join(f"{block.block} ({block.kind})" for block in written)
        lines.append(f"  {len(written)} of {len(found.plan.blocks)} blocks in fp32: {names or '–'}")
    for point in found.plan.tradeoffs:
        lines.append(
            f"  error {point.relative_l2:.2g}, {point.latency_ms:.2f} ms ({point.basis}), "
            f"{point.lowered_ops} ops lowered; {point.description}"
        )
    return lines + [f"  note: {note}" for note in found.notes]


def as_written(plan: Plan) -> list[BlockReport]:
    """The blocks that a plan leaves in fp32."""
    return [block for block in plan.blocks if block.target.endswith("/fp32")]


def _say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
