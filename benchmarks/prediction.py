"""Predicted against measured latency of plans that were never timed: random cuts, random targets.

``python -m benchmarks.prediction`` measures what the blocks of six models cost on ONNX Runtime and
OpenVINO (fp32, and bf16 on OpenVINO), cuts the models at random into two to five stages on random
targets, has the planner's simulator predict each of these plans, and only then times them. It fails
above a median error of 12 % or a worst one of 35 %.

Costs and plans are measured minutes apart, and a shared machine changes its speed in between, by up
to 1.6 times for seconds on end. That is no error of the prediction. So every plan is timed in
rounds with the whole model on each target that the plan uses, whose time was measured when the
costs were too: the prediction is rescaled by how much slower or faster these wholes are in the very
same rounds, each target weighing as much as its stages do in the prediction. Both errors are
printed, raw and rescaled; the rescaled one is judged.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from benchmarks.dynamic_shapes import Both
from benchmarks.models import MODELS
from benchmarks.zoo.machine import machine_line
from dioe.graph import Model
from dioe.planning import PlacedStage, Placement, Problem, block_orders, simulate, to_plan
from dioe.profiling import Calls, History, Timing, measuring, time_in_rounds
from dioe.runtime import Runtime, Session
from dioe.tuning.beside import Setting, settings_beside
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.compile import Job, Settings
from dioe.tuning.known import Known
from dioe.tuning.parts import Parts
from dioe.tuning.trial import TargetContender, reference_context
from dioe.types import DioeError, Feeds, Plan, Precision, TimedOut

NAMES = ("ppocr-det", "ppocr-rec", "minilm", "efficientnet-lite0", "densenet121", "shufflenet")
MOST_STAGES = 5
MOST_MEDIAN = 0.12
MOST_WORST = 0.35
PLAN = "plan"

_WHOLES_S = 16.0
_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One plan: its stages, what was predicted of it and what it took. Times in ms.

    ``cuts`` are the positions of the first blocks of all stages but the first, of ``blocks``.
    ``speed`` is how many times as long the whole models took beside the plan as when the costs were
    measured.
    """

    model: str
    targets: tuple[str, ...]
    cuts: tuple[int, ...]
    blocks: int
    predicted_ms: float
    measured_ms: float
    speed: float
    noisy: bool

    @property
    def raw_error(self) -> float:
        """Of the prediction as it was made, for one of what was measured."""
        return self.predicted_ms / self.measured_ms - 1

    @property
    def error(self) -> float:
        """The same at the speed that the machine had when the plan was timed."""
        return self.predicted_ms * self.speed / self.measured_ms - 1


# --- plans ------------------------------------------------------------------------------------


def random_cuts(blocks: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Where to cut a row of ``blocks`` (two at least) into two to five stages, none of them empty:
    positions of the first block of all stages but the first, ascending."""
    stages = int(rng.integers(2, min(MOST_STAGES, blocks) + 1))
    positions = rng.choice(np.arange(1, blocks), size=stages - 1, replace=False)
    return tuple(sorted(int(position) for position in positions))


def random_placement(problem: Problem, rng: np.random.Generator) -> tuple[Placement, Sequence[int]]:
    """A placement of all blocks, and where it cuts the order of blocks that it chose.

    Every stage gets any target; neighbours may get the same one.
    """
    orders = block_orders(problem)
    order = orders[int(rng.integers(len(orders)))]
    cuts = random_cuts(len(order), rng)
    stages = []
    for first, end in itertools.pairwise((0, *cuts, len(order))):
        target = int(rng.integers(len(problem.targets)))
        names = tuple(problem.blocks[position].id for position in order[first:end])
        stages.append(PlacedStage(names, (target,) * len(names)))
    return Placement(tuple(stages)), cuts


def weights(problem: Problem, placement: Placement) -> dict[int, float]:
    """The share of the predicted time that each target's stages have, by the target's index."""
    simulation = simulate(problem, placement)
    found: dict[int, float] = {}
    for stage, simulated in zip(placement.stages, simulation.stages, strict=True):
        spent_ms = simulated.times.total_ms + simulated.handover_ms
        found[stage.targets[0]] = found.get(stage.targets[0], 0.0) + spent_ms
    return {target: ms / simulation.total_ms for target, ms in found.items()}


# --- measuring --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bench:
    """One model, with what its parts cost in each of some settings."""

    name: str
    model: Model
    feeds: Feeds
    parts: Parts
    settings: Sequence[Setting]
    runtime: Runtime
    hardware: str

    def rows(self, plans: int, rng: np.random.Generator, seconds: float) -> Iterator[Row]:
        """Make so many plans, predict and then time each of them."""
        problem = self.parts.problem(self.settings)
        for number in range(plans):
            placement, cuts = random_placement(problem, rng)
            plan = self.plan(problem, placement)
            share = {self.settings[i]: w for i, w in weights(problem, placement).items()}
            print(f"{self.name}, plan {number + 1} of {plans} …", file=sys.stderr, flush=True)
            timings = self.time(plan, list(share), seconds)
            speeds = speed_by_round(
                {s.name: (w, self.parts.whole_ms(s)) for s, w in share.items()}, timings
            )
            predicted_ms = plan.predicted_ms or 0.0
            measured_ms, speed = compared(timings[PLAN], speeds)
            targets = tuple(str(stage.target) for stage in plan.stages)
            yield Row(
                self.name, targets, tuple(cuts), len(problem.blocks), predicted_ms, measured_ms,
                speed, timings[PLAN].noisy,
            )  # fmt: skip

    def plan(self, problem: Problem, placement: Placement) -> Plan:
        """The plan of a placement, as the tuner makes it."""
        return to_plan(
            problem, placement, self.parts.graph, hardware=self.hardware,
            shapes={n: v.shape for n, v in self.feeds.items() if isinstance(v, np.ndarray)},
            policy="latency", precision="auto", limit=1.0,
        )  # fmt: skip

    def time(self, plan: Plan, settings: Sequence[Setting], seconds: float) -> dict[str, Timing]:
        """The plan through ``Session.run`` and the whole model in each setting, in turn within the
        same rounds. No threads spin, so nobody steals cores from the next."""
        with contextlib.ExitStack() as opened, measuring() as locked:
            calls: Calls = {}
            for setting in settings:
                whole = self._whole(setting)
                calls = {**calls, setting.name: next(iter(opened.enter_context(whole).values()))}
            session = opened.enter_context(Session(self.model, [plan], runtime=self.runtime))
            calls = {**calls, PLAN: partial(session.run, self.feeds)}
            return time_in_rounds(
                {PLAN: Both(calls)}, budget_s=seconds, rounds=_ROUNDS, always=[PLAN], locked=locked
            )

    def _whole(self, setting: Setting) -> contextlib.AbstractContextManager[Calls]:
        candidate = replace(setting.candidate, resources=setting.resources)
        watch = Stopwatch()
        return TargetContender(candidate, self.model, self.feeds, self.runtime, watch).open()


def speed_by_round(
    wholes: Mapping[str, tuple[float, float]], timings: Mapping[str, Timing]
) -> list[float]:
    """How many times as long the wholes took in each round as before.

    ``wholes`` has the weight of each, and the time it took before in ms, by its name in
    ``timings``.
    """
    rounds = zip(*(timings[name].rounds for name in wholes), strict=True)
    total = sum(weight for weight, _ in wholes.values())
    return [
        sum(
            weight * done.median_ms / before_ms
            for (weight, before_ms), done in zip(wholes.values(), each, strict=True)
        )
        / total
        for each in rounds
    ]


def compared(timing: Timing, speeds: Sequence[float]) -> tuple[float, float]:
    """The time of a plan in ms, and the machine's speed meanwhile: that of the round in which the
    plan took its median time, at that speed. Of quiet rounds if there are any."""
    pairs = [
        (done.median_ms, speed, done.noisy)
        for done, speed in zip(timing.rounds, speeds, strict=True)
    ]
    kept = [(ms, speed) for ms, speed, noisy in pairs if not noisy or timing.noisy]
    kept.sort(key=lambda pair: pair[0] / pair[1])
    return kept[(len(kept) - 1) // 2]


@contextlib.contextmanager
def opened(name: str, alone_s: float) -> Iterator[Bench]:
    """A model with its parts measured: wholes on every target, and blocks alone where there is
    time for that."""
    zoo = MODELS[name]
    print(f"{name}: what its parts cost …", file=sys.stderr, flush=True)
    with contextlib.closing(Runtime()) as runtime:
        job = Job(
            zoo.path(), hardware=None, settings=Settings(precision="auto"),
            sample_inputs=zoo.feeds()[:1], runtime=runtime,
        )  # fmt: skip
        group = job.groups[0]
        model, feeds = job.bound_model(group), group.feeds[0]
        known = Known(
            History(None), model_sha256=job.model.sha256, shapes=group.shapes, samples="",
            hardware=job.hardware, versions=job.versions,
        )  # fmt: skip
        parts = Parts(model, feeds, runtime, known, Stopwatch(), lambda text: None)
        # on all threads: what a target takes on one is the same question
        beside = [s for s in settings_beside(job.candidates(group), job.pool) if _on_all(s)]
        with measuring() as locked:
            # bf16 apart: beside it, fp32 targets may look too slow to be worth any part of a plan
            for written in (True, False):
                some = [s for s in beside if _written(s) is written]
                parts.measure_wholes(some, Budget(_WHOLES_S / 2), locked=locked)
            settings = _all_written(name, beside, parts)
            if alone_s > 0:
                with reference_context(runtime) as reference:
                    parts.measure_alone(settings, Budget(alone_s), reference, locked=locked)
        yield Bench(name, model, feeds, parts, settings, runtime, job.hardware)


def _on_all(setting: Setting) -> bool:
    return setting.name == str(setting.target)


def _written(setting: Setting) -> bool:
    return setting.target.precisions == (Precision.FP32,)


def _all_written(name: str, beside: Sequence[Setting], parts: Parts) -> list[Setting]:
    """The settings that were measured; a seed's plans depend on them, so none of fp32 may lack."""
    settings = [s for s in beside if s in parts.wholes]
    missing = [
        f"{s.name} ({parts.left_out.get(s.name, 'no reason given')})"
        for s in beside
        if _written(s) and not s.candidate.refusal and s not in settings
    ]
    if missing:
        raise TimedOut(
            f"not measured: {', '.join(missing)}",
            place=name,
            fix="run it again while nothing else uses the cores",
        )
    return settings


# --- the report -------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, measure, print and judge; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"models (default: {', '.join(NAMES)})")
    parser.add_argument("--plans", type=int, default=30, help="of all models (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="of the random plans (default: 0)")
    parser.add_argument("--time", type=float, default=8.0, help="seconds for each plan at most")
    parser.add_argument("--alone", type=float, default=0.0, help="seconds for blocks alone a model")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    names = options.names or list(NAMES)
    unknown = sorted(set(names) - set(MODELS))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    rows: list[Row] = []
    try:
        for number, name in enumerate(names):
            plans = len(range(number, options.plans, len(names)))
            rng = np.random.default_rng([options.seed, *name.encode()])
            with opened(name, options.alone) as bench:
                rows += bench.rows(plans, rng, options.time)
    except DioeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps([{**asdict(r), "error": r.error} for r in rows], indent=1))
    else:
        print(table(rows))
        print()
        print(summary(rows))
        print(f"\nTimes in ms, batch 1, no threads spin; {machine_line()}.")
    found = problems(rows)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


def table(rows: Sequence[Row]) -> str:
    """The plans in Markdown."""
    head = ["model", "stages", "cuts", "predicted", "measured", "raw error", "speed", "error"]
    cells = [head, ["---"] * 3 + ["---:"] * 5]
    for row in rows:
        cells.append(
            [
                row.model,
                " → ".join(map(_short, row.targets)),
                f"{', '.join(map(str, row.cuts))} of {row.blocks}",
                f"{row.predicted_ms:.2f}",
                f"{row.measured_ms:.2f}" + (", noisy" if row.noisy else ""),
                f"{row.raw_error:+.0%}",
                f"×{row.speed:.2f}",
                f"{row.error:+.0%}",
            ]
        )
    return "\n".join("| " + " | ".join(each) + " |" for each in cells)


def _short(target: str) -> str:
    _, backend, precision = target.split("/")
    return f"{backend} {precision}"


def summary(rows: Sequence[Row]) -> str:
    """Median and worst error of all plans and of each model's, in Markdown."""
    cells = [["", "plans", "median error", "worst", "raw median", "raw worst"]]
    cells.append(["---", *["---:"] * 5])
    names = dict.fromkeys(row.model for row in rows)
    groups = [(name, [row for row in rows if row.model == name]) for name in names]
    for name, group in [*groups, ("**all**", list(rows))]:
        errors, raw = [abs(r.error) for r in group], [abs(r.raw_error) for r in group]
        figures = (statistics.median(errors), max(errors), statistics.median(raw), max(raw))
        cells.append([name, str(len(group)), *(f"{figure:.1%}" for figure in figures)])
    return "\n".join("| " + " | ".join(each) + " |" for each in cells)


def problems(rows: Sequence[Row]) -> list[str]:
    """What is worse than it may be."""
    found = []
    errors = [abs(row.error) for row in rows]
    if statistics.median(errors) > MOST_MEDIAN:
        found.append(f"the median error is {statistics.median(errors):.1%}, over {MOST_MEDIAN:.0%}")
    if max(errors) > MOST_WORST:
        found.append(f"the worst error is {max(errors):.1%}, over {MOST_WORST:.0%}")
    return found


if __name__ == "__main__":
    sys.exit(main())
