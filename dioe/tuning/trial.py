"""Trying one target: compile, run, compare with the reference, time it roughly."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.graph import Model, OpGraph, extract, find_blocks
from dioe.precision import Comparison, compare
from dioe.profiling import (
    NOISY_SHARE,
    Calls,
    Contender,
    CpuLoad,
    Timing,
    others_share,
    preset_outputs,
    time_calls,
    time_in_rounds,
    waiting_call,
)
from dioe.runtime import Runtime, is_host
from dioe.runtime.loading import Parts, PlanRequest, SingleStageRequest, StagedRequest, owned
from dioe.runtime.memory import Memory, memories
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.modelled import UNCHECKED
from dioe.tuning.targets import Candidate, error_cause
from dioe.types import (
    Context,
    DioeError,
    Executable,
    Feeds,
    KnownAs,
    OutOfMemory,
    Precisions,
    Request,
    Resources,
    TargetReport,
    UnsupportedError,
    Value,
)

log = logging.getLogger(__name__)

_REFERENCE_RESOURCES = Resources(spin=False)

SLOW_RATIO = 3.0
"""A target shown to be this many times slower than the best is dropped (architecture.md)."""

_DISTURBED_RATIO = 10.0
"""How many times more than that shows it beside other processes, whatever share they take."""

_FIRST_SHARES = (0.01, 0.1)
"""Of a model's work, in its first blocks: those that a device off the host is tried on first."""

_QUICK_S = 0.15
_SLOW_TRIES = 2
_LEAST_RUNS = 12
"""Of the whole model, that a first look takes: warmed up, compared and timed."""

OUT_OF_MEMORY = "out of memory: "
"""How the reason of a target begins whose device has no room for the whole model."""

REFERENCE_BACKENDS = ("onnxruntime", "reference")
"""The model as written is run by the first of these that can (architecture.md, Fidelity)."""


@dataclass(frozen=True, slots=True)
class TargetContender:
    """A target in its own best configuration, through its fastest native call: preset buffers."""

    candidate: Candidate
    model: Model
    feeds: Feeds
    runtime: Runtime
    watch: Stopwatch

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Compile, bind and hand out the call; close everything afterwards.

        Raises TargetFailed for whatever the backend raises, the timed calls included.
        """
        try:
            with compiled(self.candidate, self.model, self.runtime, self.watch) as executable:
                request = executable.request()
                request.bind(self.feeds, preset_outputs(executable))
                yield {str(self.candidate.target): waiting_call(request)}
        except (Exception, SystemExit) as error:
            raise TargetFailed(str(self.candidate.target), error_cause(error)) from error


class TargetFailed(Exception):
    """A target that worked when it was tried fails while it is timed."""

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(f"{target}: {reason}")
        self.target, self.reason = target, reason


def time_surviving(
    contenders: Mapping[str, Contender], *, budget_s: float, **settings: Any
) -> tuple[dict[str, Timing], dict[str, str]]:
    """``time_in_rounds`` for those that keep working, and the reasons of the others by name.

    What was timed beside a target that fails is timed anew in what is left of the budget.
    """
    budget = Budget(budget_s)
    left, reasons = dict(contenders), dict[str, str]()
    while left:
        try:
            return time_in_rounds(left, budget_s=max(budget.left_s, 0.0), **settings), reasons
        except TargetFailed as failure:
            log.info("target %s fails while it is timed", failure.target, exc_info=True)
            reasons[failure.target] = failure.reason
            del left[failure.target]
    return {}, reasons


@contextlib.contextmanager
def compiled(
    candidate: Candidate, model: Model, runtime: Runtime, watch: Stopwatch
) -> Iterator[Executable]:
    """The whole model compiled on a target; closed with its context at the end of the block."""
    target = candidate.target
    with runtime.context(target, candidate.resources) as context:
        with watch.part("compile_s"):
            executable = context.compile(model, Precisions(target.precisions[0]), {})
        try:
            yield executable
        finally:
            executable.close()


def reference_outputs(
    model: Model, samples: Sequence[Feeds], runtime: Runtime
) -> list[dict[str, Value]]:
    """Outputs of the model as written for each sample: graph optimisations off.

    Raises UnsupportedError with every attempt's reason if no reference backend can run it.
    """
    reasons = []
    for name in REFERENCE_BACKENDS:
        try:
            with reference_on(name, runtime) as context:
                executable = context.compile(model, Precisions(), {"optimize": False})
                try:
                    return [run_once(executable.request(), feeds) for feeds in samples]
                finally:
                    executable.close()
        except DioeError as error:
            reasons.append(f"{name}: {error.cause}")
    raise UnsupportedError(
        f"nothing here can run the model as written, so no answer can be checked "
        f"({'; '.join(reasons)})",
        fix="`dioe inspect MODEL` shows which ops each target refuses and why",
    )


@contextlib.contextmanager
def reference_context(runtime: Runtime) -> Iterator[Context | None]:
    """A context of the first reference backend there is, None where there is none."""
    with contextlib.ExitStack() as opened:
        for name in REFERENCE_BACKENDS:
            try:
                context = opened.enter_context(reference_on(name, runtime))
            except DioeError as error:
                log.info("no reference on %s: %s", name, error.cause)
                continue
            yield context
            return
        yield None


@contextlib.contextmanager
def reference_on(name: str, runtime: Runtime) -> Iterator[Context]:
    """A context of that backend, to run models as they are written; closed after the block."""
    context = runtime.registry.backend(name).open("cpu", _REFERENCE_RESOURCES)
    try:
        yield context
    finally:
        context.close()


def run_once(request: Request, feeds: Feeds) -> dict[str, Value]:
    """Outputs of one run, copied."""
    request.bind(feeds)
    request.run().wait()
    return {name: owned(value) for name, value in request.outputs.items()}


def slow_at_first(
    candidate: Candidate,
    model: Model,
    feeds: Feeds,
    runtime: Runtime,
    best_ms: float,
    left_s: float = math.inf,
) -> str:
    """Why a target off the host isn't worth running the whole model: its first blocks alone take
    over three times as long as the best target takes for everything, or tell that the whole takes
    longer than the ``left_s`` seconds of a budget. Empty if neither.

    Raises what the backend raises.

    A device may be a thousand times slower than the host, and one run of everything would then be
    the end of the budget.
    """
    if is_host(candidate.target.device) or not (math.isfinite(best_ms) or math.isfinite(left_s)):
        return ""
    graph = OpGraph.build(model)
    blocks = find_blocks(graph)
    flops = [sum(graph.ops[op].flops or 1 for op in block.ops) for block in blocks]  # never 0
    for share in _FIRST_SHARES:
        most = share * sum(flops)
        count = next((i for i in range(1, len(blocks)) if sum(flops[:i]) >= most), len(blocks))
        if count == len(blocks):
            return ""
        ops = [op for block in blocks[:count] for op in block.ops]
        with _part_of(candidate, extract(graph, ops, "first"), feeds, runtime) as call:
            call()
            ms = _shown_slow(call, enough_ms=SLOW_RATIO * best_ms)
            why = f"over {SLOW_RATIO:g} times the best whole, {best_ms:.4g} ms"
            if ms is None:
                ms = float(time_calls(call, seconds=0.0, min_calls=1, warm=False).min())
                needed_s = _LEAST_RUNS * ms / 1e3 * sum(flops) / sum(flops[:count])
                why = (
                    f"and {_LEAST_RUNS} runs of the whole about {needed_s:.3g} s, more than is "
                    f"left of the tuning budget"
                )
                ms = ms if needed_s > left_s else None
        if ms is not None:
            alone = f"{count} of {len(blocks)} blocks" if count > 1 else f"of {len(blocks)} blocks"
            take = "take" if count > 1 else "takes"
            word = "" if candidate.known_as is KnownAs.HARDWARE else f" ({candidate.known_as})"
            return f"the first {alone} alone {take} {ms:.4g} ms{word}, {why}"
    return ""


@contextlib.contextmanager
def _part_of(
    candidate: Candidate, part: Model, feeds: Feeds, runtime: Runtime
) -> Iterator[Callable[[], object]]:
    """A call that runs a part of the model, of whose inputs all are the model's."""
    with runtime.context(candidate.target, candidate.resources) as context:
        executable = context.compile(part, Precisions(candidate.target.precisions[0]), {})
        try:
            names = {spec.name for spec in executable.inputs}
            request = executable.request()
            request.bind({n: value for n, value in feeds.items() if n in names})
            yield waiting_call(request)
        finally:
            executable.close()


def try_target(
    candidate: Candidate,
    model: Model,
    samples: Sequence[Feeds],
    reference: Sequence[Mapping[str, Value]],
    runtime: Runtime,
    *,
    limit: float,
    best_ms: float,
    watch: Stopwatch,
    left_s: float = math.inf,
) -> TargetReport:
    """A first report on a target; never raises for what a backend does.

    ``best_ms`` is the best target's time so far: one that is over three times slower after some
    runs is ``slow`` and not looked at further; so is a device whose first blocks tell that it needs
    more than ``left_s`` seconds. One that writes into its inputs has ``failed``.
    """
    name = str(candidate.target)
    if candidate.refusal:
        return TargetReport(name, candidate.refused_state, candidate.refusal)
    given = [{name: owned(value) for name, value in feeds.items()} for feeds in samples]
    try:
        too_slow = slow_at_first(candidate, model, given[0], runtime, best_ms, left_s)
        if too_slow:
            return TargetReport(name, "slow", too_slow, known_as=candidate.known_as)
        with (
            runtime.context(candidate.target, candidate.resources) as context,
            compiled(candidate, model, runtime, watch) as executable,
        ):
            (home,) = memories([candidate.target.device], [context])
            request = executable.request()
            request.bind(given[0], preset_outputs(executable))
            call = waiting_call(request)
            call()
            slow_ms = _shown_slow(call, enough_ms=SLOW_RATIO * best_ms)
            if slow_ms is not None:
                word = "" if candidate.known_as is KnownAs.HARDWARE else f" ({candidate.known_as})"
                reason = f"a run takes {slow_ms:.4g} ms{word}, over {SLOW_RATIO:g} times the best"
                return TargetReport(
                    name, "slow", reason, p50_ms=slow_ms, runs=1, known_as=candidate.known_as
                )
            with watch.part("verify_s"):
                found = None if candidate.modelled else _verify(executable, home, given, reference)
            times_ms = time_calls(call, seconds=_QUICK_S)
        if any(compare(g, s).error > 0 for g, s in zip(given, samples, strict=True)):
            return TargetReport(name, "failed", "it writes into its inputs")
    except UnsupportedError as error:
        return TargetReport(name, "unsupported", error.cause)
    except OutOfMemory as error:
        return TargetReport(name, "failed", OUT_OF_MEMORY + error.cause)
    except (Exception, SystemExit) as error:
        if not isinstance(error, DioeError):
            log.info("target %s failed", name, exc_info=True)
        return TargetReport(name, "failed", error_cause(error))
    state, reason = ("ok", UNCHECKED) if found is None else verdict(found, limit)
    return TargetReport(
        name,
        state,
        reason,
        p50_ms=float(np.median(times_ms)),
        runs=len(times_ms),
        relative_l2=found.error if found is not None and math.isfinite(found.error) else None,
        known_as=candidate.known_as,
    )


def _shown_slow(call: Callable[[], object], *, enough_ms: float) -> float | None:
    """The time of the fastest of many runs if none took less than ``enough_ms``, else None.

    A few runs may have been disturbed, which tells most where a run takes microseconds; and while
    other processes use the cores, nothing is shown but by times that these don't explain.
    """
    fastest_ms, runs = math.inf, 0
    load = CpuLoad.now()
    start = time.perf_counter()
    while runs < _SLOW_TRIES or time.perf_counter() - start < _QUICK_S:
        before = time.perf_counter()
        call()
        fastest_ms = min(fastest_ms, (time.perf_counter() - before) * 1e3)
        runs += 1
        if fastest_ms <= enough_ms:
            return None
    if disturbed_since(load) and fastest_ms <= _DISTURBED_RATIO * enough_ms:
        return None
    return fastest_ms


def disturbed_since(load: CpuLoad) -> bool:
    """Whether other processes have used the cores since then: times are noisy."""
    return others_share(load, CpuLoad.now()) > NOISY_SHARE


def verdict(found: Comparison, limit: float) -> tuple[str, str]:
    """State and reason of a target whose outputs compare so with the reference."""
    if found.error <= limit:
        return "ok", ""
    what = found.reason or f"error {found.error:.3g} is above the limit {limit:g}"
    return "infidel", f"output {found.output!r}: {what}"


def _verify(
    executable: Executable,
    home: Memory | None,
    samples: Sequence[Feeds],
    reference: Sequence[Mapping[str, Value]],
) -> Comparison:
    """The worst error in both ways a session runs it: fresh outputs, and preset buffers."""
    names = [spec.name for spec in executable.outputs]
    fresh, preset = _plan_requests(executable, home, names)
    worst = Comparison(0.0)
    for feeds, expected in zip(samples, reference, strict=True):
        outputs = dict(zip(names, fresh.call(feeds, names), strict=True))
        preset.bind(feeds, preset_outputs(executable))
        preset.run()
        worst = worst.worse(compare(outputs, expected)).worse(compare(preset.outputs, expected))
    return worst


def _plan_requests(
    executable: Executable, home: Memory | None, names: Sequence[str]
) -> tuple[PlanRequest, PlanRequest]:
    """Two requests as sessions make them on a plan of this one stage."""
    if home is None:
        return SingleStageRequest(executable.request()), SingleStageRequest(executable.request())
    parts = Parts([executable], executable.inputs, names, [home])
    return StagedRequest(parts), StagedRequest(parts)
