"""What the parts of a model cost beside other executables: the cost table that planning works on.

A block's cost is its share of a whole's per-op times, scaled to what the whole takes: its cost in
context, with the fusions and layouts it has there. Blocks alone are measured for what that doesn't
tell: targets that can't take the whole, and what it costs to be a stage.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dioe.graph import Block, Model, OpGraph, find_blocks
from dioe.planning import Cost, Line, Problem, TargetCosts, block_nodes, build_problem
from dioe.profiling import (
    BlockKey,
    BlockTiming,
    StageFit,
    StageObservation,
    block_corrections,
    capture,
    fit,
    in_context,
    profile_blocks,
    profile_executable,
)
from dioe.profiling.blocks import Progress
from dioe.runtime import Runtime, is_host
from dioe.tuning.beside import Setting
from dioe.tuning.clock import Budget, Stopwatch
from dioe.tuning.copies import Copies
from dioe.tuning.known import Known
from dioe.tuning.targets import error_cause, is_lowered, memory_bytes
from dioe.tuning.unmeasured import Unmeasured, default_ms
from dioe.tuning.wholes import WholeBeside, slowdown_of, time_wholes, too_slow
from dioe.types import (
    Array,
    Basis,
    Context,
    DioeError,
    Feeds,
    OpTime,
    Precisions,
    Stage,
)

log = logging.getLogger(__name__)

_PROFILE_S = 0.15
UNREACHED = "the tuning budget ended before the whole model was measured there"

_SWITCH = Line(0.002, 5e-8)
"""A value's change of precision inside an executable: written and read once more, at 20 GB/s."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """Blocks inside a whole model in one setting: ms by id, from ``runs`` runs."""

    blocks: Mapping[str, float]
    runs: int


class Parts:
    """The blocks of a model (shapes bound), their measured costs, and what was learnt of stages."""

    def __init__(
        self,
        model: Model,
        feeds: Feeds,
        runtime: Runtime,
        known: Known,
        watch: Stopwatch,
        progress: Callable[[str], None],
        marks: Mapping[str, str] | None = None,
    ) -> None:
        """Ops whose ``marks`` differ are never in one block."""
        self.model = model
        self.graph = OpGraph.build(model)
        self.blocks: tuple[Block, ...] = find_blocks(self.graph, marks)
        self.noisy = False
        """Whether a whole was timed while other processes used the cores."""
        self.left_out: dict[str, str] = {}
        """Settings, by name, in which the whole was to be measured and isn't, and why."""
        self.slow: set[Setting] = set()
        """Those in which it is too slow for any part that another setting takes."""
        self._nodes = block_nodes(self.graph, self.blocks)
        self._feeds = feeds
        self._runtime = runtime
        self._known = known
        self._watch = watch
        self._progress = progress
        self._wholes: dict[Setting, _Whole] = {}
        self._alone: dict[tuple[str, Setting], BlockTiming] = {}
        self._observed: list[StageObservation] = []
        self._seen: dict[tuple[str, Setting], float] = {}
        """Blocks (by id) of stages that were timed where the whole wasn't: their shares, in ms."""
        self._copies = Copies(runtime, known)
        self._unmeasured = Unmeasured(self.graph, self.blocks)
        self._left: set[tuple[str, Setting]] = set()
        """Blocks (by id) that a setting takes, and that are left to others."""
        self._anchor_ms: dict[Setting, float] = {}
        """The least that each whole took as an anchor."""

    # --- measuring ----------------------------------------------------------------------------

    def measure_wholes(
        self,
        settings: Sequence[Setting],
        budget: Budget,
        *,
        locked: bool,
        meets: Callable[[Setting], bool] | None = None,
    ) -> bool:
        """Time the whole model in each setting that takes it, and profile its ops there.

        What fails is left out, and so is what is far slower than the best setting that ``meets``
        the fidelity limit, as far as is known: one in lower precision that may yet turn out to err
        too much is no reason to do without others. Left out itself, it is those as written. Whole
        models come first, since all else is scaled to them. False if the budget left some out:
        those on fewer threads first. ``left_out`` has the reasons.
        """
        if meets is None:
            meets = self._as_written
        new = [s for s in settings if s.candidate.runs_whole and s not in self._wholes]
        for setting in new:
            found = self._known.op_times(setting.target, setting.resources)
            if found is not None:
                self._take_whole(setting, *found)
        new = [s for s in new if s not in self._wholes]
        new.sort(key=lambda s: s.name != str(s.target))
        self.left_out |= dict.fromkeys((s.name for s in new), UNREACHED)
        found_ms = min(map(self.whole_ms, self._wholes), default=math.inf)
        times = time_wholes(
            [self._contender(s) for s in new], budget,
            known_ms=found_ms, locked=locked, progress=self._progress,
        )  # fmt: skip
        timings, done = times.timings, times.count == len(new)
        self.left_out |= {**times.failures, **{s.name: why for s, why in times.slow.items()}}
        self.slow |= times.slow.keys()
        ms = {s: self.whole_ms(s) for s in self._wholes}
        ms |= {s: timings[s.name].p50_ms for s in new if s.name in timings}
        own = {str(s.target): ms[s] for s in ms if s.name == str(s.target)}
        least_ms = min((ms[s] for s in ms if meets(s)), default=math.inf)
        longest_s = 0.0
        for setting in (s for s in new if s in ms):
            slow = too_slow(ms[setting], own.get(str(setting.target), math.inf), least_ms)
            if slow:
                self.left_out[setting.name] = slow
                self.slow.add(setting)
                continue
            if not budget.allows(longest_s):
                return False
            start = time.perf_counter()
            op_times = self._profile(setting)
            longest_s = max(longest_s, time.perf_counter() - start)
            if op_times is not None:
                timing = timings[setting.name]
                self.noisy |= timing.noisy
                self._take_whole(setting, timing.p50_ms, op_times)
                self._known.keep_op_times(
                    setting.target, setting.resources, timing.p50_ms, op_times,
                    runs=timing.runs, noisy=timing.noisy,
                )  # fmt: skip
        return done

    def _as_written(self, setting: Setting) -> bool:
        return not is_lowered(setting.target, quantised=self.model.quantised)

    def _contender(self, setting: Setting) -> WholeBeside:
        return WholeBeside(setting, self.model, self._feeds, self._runtime, self._watch)

    def _profile(self, setting: Setting) -> Sequence[OpTime] | None:
        precisions = Precisions(setting.target.precisions[0])
        try:
            with self._runtime.context(setting.target, setting.resources) as context:
                return profile_executable(
                    context, self.model, precisions, self._feeds, seconds=_PROFILE_S
                )
        except (Exception, SystemExit) as error:
            self.left_out[setting.name] = f"its ops can't be profiled: {error_cause(error)}"
            log.info("%s can't be profiled", setting.name, exc_info=True)
            return None

    def _take_whole(self, setting: Setting, ms: float, times: Sequence[OpTime]) -> None:
        work = {op: float(info.flops or 0) for op, info in self.graph.ops.items()}
        groups = {block.id: block.ops for block in self.blocks}
        runs = max((time.count for time in times), default=0)
        self._wholes[setting] = _Whole(in_context(times, groups, ms, work), runs)
        self.left_out.pop(setting.name, None)

    @property
    def wholes(self) -> list[Setting]:
        """The settings in which the whole model was measured."""
        return list(self._wholes)

    def whole_ms(self, setting: Setting) -> float:
        """What the whole model takes in one of ``wholes``."""
        return sum(self._wholes[setting].blocks.values())

    def takes(self, setting: Setting, block: Block) -> bool:
        """Whether a block may be in a stage of this setting."""
        return setting.takes(block) and (block.id, setting) not in self._left

    def has_blocks_for(self, setting: Setting) -> bool:
        """Whether any block may."""
        return any(self.takes(setting, block) for block in self.blocks)

    def leave_to_others(self, slow: Collection[Setting], settings: Sequence[Setting]) -> None:
        """Take from the ``slow`` settings every block that another of the settings takes."""
        others = [s for s in settings if s not in slow]
        for block in self.blocks:
            if any(other.takes(block) for other in others):
                self._left |= {(block.id, setting) for setting in slow}

    def _alone_there(self, block: Block, settings: Sequence[Setting]) -> bool:
        """Whether only one target takes a block, so that nothing is to be chosen."""
        return len({str(s.target) for s in settings if self.takes(s, block)}) == 1

    def measure_copies(self, settings: Sequence[Setting], *, locked: bool) -> None:
        """Time copies to and from the memories of devices: what a boundary there costs."""
        self._copies.measure(settings, locked=locked)

    @contextlib.contextmanager
    def anchor(self) -> Iterator[Callable[[], float]]:
        """Gives a call that tells how many times as long the host's fastest whole takes now as at
        best.

        At best is the least that these calls have timed so far, so the first one gives 1: another
        opening of the same executable, as it was timed for ``whole_ms``, may differ by 30 %. A
        shared machine changes its speed for seconds at a time. The whole stays open beside what is
        measured: in these settings idle threads don't spin. Always 1 where it can't be opened.
        """
        on_host = (s for s in self._wholes if is_host(s.target.device))
        fastest = min(on_host, key=self.whole_ms, default=None)
        whole = None if fastest is None else self._contender(fastest)
        with slowdown_of(whole, self._anchor_ms) as speed:
            yield speed

    def measure_alone(
        self,
        settings: Sequence[Setting],
        budget: Budget,
        reference: Context | None,
        *,
        locked: bool,
        progress: Progress | None = None,
        choices: bool = False,
    ) -> dict[BlockKey, BlockTiming | str]:
        """Time every distinct block alone in each setting, as far as the budget goes; with
        ``choices`` only those that more than one target takes.

        Gives figures by structure and setting's name, or why there are none: the backend refuses
        an op or fails, or can't even be opened. What wasn't reached is left out. ``reference``
        captures the blocks' inputs; without one they are made up.
        """
        by_name = {s.name: s for s in settings}
        asked = {b.id for b in self.blocks if not (choices and self._alone_there(b, settings))}

        def known(key: BlockKey) -> BlockTiming | None:
            structure, name = key
            setting = by_name[name]
            timing = self._known.block(structure, setting.target, setting.resources)
            if timing is not None:
                self._alone[structure, setting] = timing
            return timing

        def keep(key: BlockKey, timing: BlockTiming) -> None:
            structure, name = key
            setting = by_name[name]
            self._alone[structure, setting] = timing
            self._known.keep_block(structure, setting.target, setting.resources, timing)

        def tell(text: str, done: int, total: int) -> None:
            self._progress(f"block {done + 1} of {total}: {text}")

        found: dict[BlockKey, BlockTiming | str] = {}
        with contextlib.ExitStack() as opened:
            contexts: dict[str, tuple[Context, Precisions]] = {}
            for s in settings:
                try:
                    context = opened.enter_context(self._runtime.context(s.target, s.resources))
                except (Exception, SystemExit) as error:
                    log.info("%s can't be opened", s.name, exc_info=True)
                    found |= self._without_figures(s, error_cause(error))
                else:
                    contexts[s.name] = context, Precisions(s.target.precisions[0])
                    found |= self._without_figures(s)
            activations = opened.enter_context(self._activations(reference))
            found |= profile_blocks(
                self.graph, self.blocks, contexts, activations,
                budget=lambda: budget.left_s, known=known, keep=keep,
                takes=lambda block, name: block.id in asked and self.takes(by_name[name], block),
                progress=progress or tell,
                locked=locked,
            )  # fmt: skip
        return found

    def _without_figures(self, setting: Setting, reason: str = "") -> dict[BlockKey, str]:
        """The blocks that can't be timed in a setting, and why: a ``reason`` for all of them, or
        what the backend says of those that it refuses."""
        refused = setting.candidate.support.refused
        return {
            (block.structure_hash, setting.name): reason or next(
                refused[op] for op in block.ops if op in refused
            )
            for block in self.blocks
            if reason or not setting.takes(block)
        }  # fmt: skip

    @contextlib.contextmanager
    def _activations(self, reference: Context | None) -> Iterator[Mapping[str, Array]]:
        """What flows between blocks; only the inputs where that can't be captured."""
        values = [value for node in self._nodes for value in node.reads]
        if reference is not None:
            try:
                captured = capture(self.graph, values, self._feeds, reference)
            except DioeError as error:
                log.info("activations can't be captured: %s", error.cause)
            else:
                with captured:
                    yield captured
                return
        yield {n: value for n, value in self._feeds.items() if isinstance(value, np.ndarray)}

    # --- learning -----------------------------------------------------------------------------

    def observe(
        self, stages: Sequence[tuple[Stage, float]], settings: Sequence[Setting] = ()
    ) -> None:
        """Learn from the stages of a plan, in order, each with the time it took, in ms.

        ``settings`` are those of the plan; of the ones in which the whole wasn't measured, what
        their blocks take is learnt.
        """
        previous: str | None = None
        for stage, measured_ms in stages:
            observation = self._observation(stage, previous, measured_ms)
            if observation is not None and measured_ms > 0:
                self._observed.append(observation)
                previous = observation.target
            elif measured_ms > 0:
                self._see(stage, measured_ms, settings)
                previous = None

    def _see(self, stage: Stage, measured_ms: float, settings: Sequence[Setting]) -> None:
        """Share out what a stage took among its blocks, by what is thought of each."""
        beside = (stage.target, stage.resources)
        setting = next((s for s in settings if (s.target, s.resources) == beside), None)
        inside = set(stage.ops)
        blocks = [block for block in self.blocks if block.ops[0] in inside]
        weights = [default_ms(self.graph, block) for block in blocks]
        if setting is None or setting in self._wholes or not sum(weights):
            return
        reads, gives = self._sizes(stage.inputs), self._sizes(stage.outputs)
        own_ms = self._copies.own_ms(setting, measured_ms, reads, gives)
        for block, weight in zip(blocks, weights, strict=True):
            self._seen[block.id, setting] = own_ms * weight / sum(weights)

    def _sizes(self, values: Iterable[str]) -> list[int]:
        return [self.graph.values[name].nbytes or 0 for name in values]

    def _observation(
        self, stage: Stage, previous: str | None, measured_ms: float
    ) -> StageObservation | None:
        settings = {
            s.target.precisions[0]: s
            for s in self._wholes
            if (s.target.device, s.target.backend, s.resources)
            == (stage.target.device, stage.target.backend, stage.resources)
        }
        inside = set(stage.ops)
        costs = {}
        for block in self.blocks:
            if block.ops[0] in inside:
                setting = settings.get(stage.precisions.of(block.ops[0]))
                if setting is None:
                    return None
                costs[block.id] = self._own(setting)[block.id]
        reads, gives = self._sizes(stage.inputs), self._sizes(stage.outputs)
        default = settings[stage.precisions.default]
        return StageObservation(
            target=default.name,
            context_ms=sum(costs.values()),
            values_in=len(reads),
            bytes_in=sum(reads),
            values_out=len(gives),
            bytes_out=sum(gives),
            previous=previous,
            measured_ms=self._copies.without(default, measured_ms, reads, gives),
            blocks=costs,
        )

    def _alone_observations(self) -> Iterator[StageObservation]:
        """A block alone is a stage of one block, and so is a whole of all."""
        own = {setting: self._own(setting) for setting in self._wholes}
        for node, block in zip(self._nodes, self.blocks, strict=True):
            for setting in self._wholes:
                timing = self._alone.get((block.structure_hash, setting))
                if timing is not None and timing.p50_ms > 0:
                    yield StageObservation(
                        target=setting.name,
                        context_ms=own[setting][block.id],
                        values_in=len(node.reads),
                        bytes_in=sum(node.reads.values()),
                        values_out=len(node.gives),
                        bytes_out=sum(node.gives.values()),
                        previous=None,
                        measured_ms=self._copies.without(
                            setting, timing.p50_ms, node.reads.values(), node.gives.values()
                        ),
                    )

    # --- the cost table -----------------------------------------------------------------------

    def _own(self, setting: Setting) -> Mapping[str, float]:
        """Blocks inside the whole, its copies of the model's inputs and outputs left out."""
        blocks = self._wholes[setting].blocks
        whole_ms = self.whole_ms(setting)
        ends = ((spec.name for spec in s) for s in (self.model.inputs, self.model.outputs))
        own_ms = self._copies.own_ms(setting, whole_ms, *map(self._sizes, ends))
        if own_ms == whole_ms:  # as on the host
            return blocks
        return {block: ms * own_ms / whole_ms for block, ms in blocks.items()}

    @property
    def settings(self) -> list[Setting]:
        """The settings that something is known about: whole models first."""
        alone = {setting for _, setting in self._alone}
        return [*self._wholes, *sorted(alone - set(self._wholes), key=lambda s: s.name)]

    def problem(self, settings: Sequence[Setting], *, complete: bool = False) -> Problem:
        """The blocks and what each costs in every setting, as far as it is known by now.

        A block that only one target takes has a predicted cost where nothing is known of it; if
        ``complete``, so has every block that is taken.
        """
        alone = fit(list(self._alone_observations()), self._copies.prior(settings))
        fitted = fit(self._observed, alone)
        factors = block_corrections(self._observed, fitted)
        alone_there = {b.id for b in self.blocks if self._alone_there(b, settings)}
        given = {b.id for b in self.blocks} if complete else alone_there
        targets = [self._costs(setting, fitted, factors, given) for setting in settings]
        handover = {
            (before.context, after.context): fitted.handover_ms(s.name, t.name)
            for s, before in zip(settings, targets, strict=True)
            for t, after in zip(settings, targets, strict=True)
        }
        return build_problem(self.graph, self.blocks, targets, handover=handover, switch=_SWITCH)

    def _costs(
        self,
        setting: Setting,
        fitted: StageFit,
        factors: Mapping[tuple[str, str], float],
        given: Collection[str],
    ) -> TargetCosts:
        stage = fitted.costs_of(setting.name)
        whole = self._wholes.get(setting)
        blocks: dict[str, Cost] = {}
        own = {} if whole is None else self._own(setting)
        for node, block in zip(self._nodes, self.blocks, strict=True):
            if not self.takes(setting, block):
                continue
            timing = self._alone.get((block.structure_hash, setting))
            seen = self._seen.get((block.id, setting))
            if whole is not None:
                factor = stage.scale * factors.get((setting.name, block.id), 1.0)
                blocks[block.id] = Cost(factor * own[block.id], Basis.CORRECTED, whole.runs)
            elif seen is not None:
                blocks[block.id] = Cost(seen, Basis.CORRECTED)
            elif timing is not None:
                ms = self._copies.own_ms(
                    setting, timing.p50_ms, node.reads.values(), node.gives.values()
                )
                blocks[block.id] = Cost(ms, Basis.MEASURED, timing.runs)
        measured = dict(blocks)
        for block in self.blocks:
            if block.id in given and block.id not in measured and self.takes(setting, block):
                blocks[block.id] = self._unmeasured.cost(setting, block, measured)
        copies = self._copies.of(setting)
        return TargetCosts(
            target=setting.target,
            blocks=blocks,
            resources=setting.resources,
            mixes=setting.candidate.mixes,
            dispatch_ms=stage.dispatch_ms,
            entry=Line(0.0, stage.entry_ms_per_byte),
            exit=Line(0.0, stage.exit_ms_per_byte),
            copy_in=Line(copies.to_fixed_ms, copies.to_ms_per_byte),
            copy_out=Line(copies.from_fixed_ms, copies.from_ms_per_byte),
            memory_bytes=memory_bytes(setting.target.device, setting.resources, self._runtime),
        )
