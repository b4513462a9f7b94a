"""Blocks alone: what each distinct block of a model takes on each target that takes it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dioe.graph import Block, Model, OpGraph, extract, make_inputs, stage_io
from dioe.profiling.calls import preset_outputs, waiting_call
from dioe.profiling.load import NOISY_SHARE, CpuLoad, others_share
from dioe.profiling.rounds import Round, Timing, time_calls
from dioe.types import (
    Array,
    Context,
    DeviceLost,
    DioeError,
    Feeds,
    Precisions,
    StageModel,
)

log = logging.getLogger(__name__)

BlockKey: TypeAlias = tuple[str, str]
"""What tells block timings of one model apart: structure hash and target."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is measured next, how many are done, and how many there are."""

_GROUP_S = 0.004
_LEAST_GROUPS = 4
_WARMUP_CALLS = 3
_WARMUP_S = 0.005
_WINDOW_S = 0.1  # what the kernel's clock ticks of 10 ms can tell others' use of the cores from
_EACH_S = 0.5
_FLOPS_PER_BYTE = 10.0
"""Operations in the time of one byte from memory: some 200 GFLOP/s and 20 GB/s, two cores of an AMD
EPYC (Zen 4). Only the order of measuring rests on it."""


@dataclass(frozen=True, slots=True)
class BlockTiming:
    """Times of a block alone, of groups of calls: percentiles at the groups' lower quartile.

    ``spread_ms`` lies between the medians of the fastest and the slowest group. ``noisy``: other
    processes used the cores all the while.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    spread_ms: float
    runs: int
    noisy: bool


@dataclass(frozen=True, slots=True)
class DistinctBlock:
    """Blocks of one structure, by their positions; the first stands for all of them."""

    structure_hash: str
    members: tuple[int, ...]

    @property
    def representative(self) -> int:
        """Position of the block to be measured."""
        return self.members[0]


def distinct_blocks(blocks: Sequence[Block]) -> list[DistinctBlock]:
    """Blocks grouped by structure, in the order in which each structure first occurs."""
    members: dict[str, list[int]] = {}
    for position, block in enumerate(blocks):
        members.setdefault(block.structure_hash, []).append(position)
    return [DistinctBlock(key, tuple(positions)) for key, positions in members.items()]


# --- one block --------------------------------------------------------------------------------


def time_block(
    context: Context,
    block_model: StageModel,
    precisions: Precisions,
    feeds: Feeds,
    *,
    budget_s: float,
    settle: float = 0.03,
    least_runs: int = 5,
    locked: bool = True,
) -> BlockTiming:
    """Compile a block and time its fastest native call: inputs and, where known, outputs preset.

    Calls are timed in groups of some milliseconds, whose medians' lower quartile is the figure:
    what disturbs a shared machine only ever adds time (docs/decisions/0003-rounds.md). It ends when
    the quartile is known to within ``settle``: when the range between the groups' quartiles, by the
    square root of their number (at least four), is that share of it. Groups during which others
    used more than 5 % of the cores are retaken. It ends at the latest when ``budget_s``, compiling
    included, is used up; if that allows fewer than ``least_runs`` runs, after as many as it allows,
    but one. ``locked`` says that the caller holds the measuring lock; else the figures are noisy.

    Raises what the backend raises.
    """
    end = time.perf_counter() + budget_s
    executable = context.compile(block_model, precisions, {})
    try:
        request = executable.request()
        request.bind(feeds, preset_outputs(executable))
        timing = _time_groups(waiting_call(request), end, settle, least_runs)
    finally:
        executable.close()
    summary = timing.summary()
    summary["noisy"] = summary["noisy"] or not locked
    return BlockTiming(**summary)


def _time_groups(call: Callable[[], object], end: float, settle: float, least_runs: int) -> Timing:
    """Warm up, then time groups until they settle or the clock says ``end``."""
    clock = time.perf_counter
    warm_until = min(clock() + _WARMUP_S, end)
    call()
    calls = 1
    while calls < _WARMUP_CALLS or clock() < warm_until:
        if clock() >= end:
            break
        call()
        calls += 1
    timing = Timing()
    window: list[Round] = []  # groups since others' use of the cores was last looked at
    before = CpuLoad.now()
    while True:
        window.append(Round(time_calls(call, seconds=_GROUP_S, min_calls=1, warm=False), False))
        over = clock() >= end
        done = over or _settled([*_quiet(timing), *window], settle, least_runs)
        if not done and clock() - before.wall_s < _WINDOW_S:
            continue
        after = CpuLoad.now()
        noisy = others_share(before, after) > NOISY_SHARE
        timing.rounds += [Round(group.samples_ms, noisy) for group in window]
        if over or (done and not noisy):
            return timing
        window, before = [], after


def _quiet(timing: Timing) -> list[Round]:
    return [group for group in timing.rounds if not group.noisy]


def _settled(groups: Sequence[Round], settle: float, least_runs: int) -> bool:
    if len(groups) < _LEAST_GROUPS or sum(len(g.samples_ms) for g in groups) < least_runs:
        return False
    low, high = np.percentile([group.median_ms for group in groups], (25, 75))
    return bool(high - low <= settle * low * math.sqrt(len(groups)))


# --- all of a model ---------------------------------------------------------------------------


def profile_blocks(
    graph: OpGraph,
    blocks: Sequence[Block],
    contexts: Mapping[str, tuple[Context, Precisions]],
    activations: Mapping[str, Array],
    *,
    budget: Callable[[], float],
    known: Callable[[BlockKey], BlockTiming | None],
    keep: Callable[[BlockKey, BlockTiming], None],
    takes: Callable[[Block, str], bool] = lambda block, target: True,
    progress: Progress = lambda text, done, total: None,
    each_s: float = _EACH_S,
    locked: bool = True,
) -> dict[BlockKey, BlockTiming | str]:
    """Time every distinct block on every target: figures, or the reason of a target that failed.

    What is ``known`` is not measured again, and takes no time. Of the rest, blocks that all their
    repetitions together make the most work come first, and all targets of one block before the next
    block, so that a budget that runs out leaves complete rows. It ends when ``budget()`` (seconds
    left) is used up: what was not reached is not in the result. ``keep`` is called after each
    timing, so nothing is lost when an exception, or Ctrl-C, ends it early. No timing lasts longer
    than ``each_s``, compiling included, unless its first runs do. Blocks that a target doesn't take
    are left out there.

    Inputs that are not among ``activations`` are made up, as the ops that read them allow.
    ``locked`` says that the caller holds the measuring lock. Never raises for what a backend does;
    a target whose device is lost is not tried further.
    """
    distinct = sorted(distinct_blocks(blocks), key=lambda d: -_work(graph, blocks, d))
    result: dict[BlockKey, BlockTiming | str] = {}
    waiting: list[tuple[DistinctBlock, list[str]]] = []
    for block in distinct:
        left = []
        for target in contexts:
            if not all(takes(blocks[i], target) for i in block.members):
                continue
            found = known((block.structure_hash, target))
            if found is None:
                left.append(target)
            else:
                result[block.structure_hash, target] = found
        if left:
            waiting.append((block, left))
    total = sum(len(targets) for _, targets in waiting)
    done = 0
    lost: dict[str, str] = {}
    for block, targets in waiting:
        if budget() <= 0:
            break
        prepared = _prepare(graph, blocks, block, activations)
        for target in targets:
            left_s = budget()
            if left_s <= 0:
                break
            key = (block.structure_hash, target)
            if isinstance(prepared, str) or target in lost:
                result[key] = prepared if isinstance(prepared, str) else lost[target]
                done += 1
                continue
            progress(f"{prepared.block.kind} {prepared.block.id} on {target}", done, total)
            context, precisions = contexts[target]
            outcome = _try_block(context, prepared, precisions, min(each_s, left_s), locked)
            if isinstance(outcome, DeviceLost):
                lost[target] = result[key] = outcome.cause
            else:
                result[key] = outcome
                if isinstance(outcome, BlockTiming):
                    keep(key, outcome)
            done += 1
    return result


def _work(graph: OpGraph, blocks: Sequence[Block], distinct: DistinctBlock) -> float:
    """What all repetitions of a block do, in operations; what isn't known counts as nothing."""
    infos = [graph.ops[op] for op in blocks[distinct.representative].ops]
    flops = sum(info.flops or 0 for info in infos)
    nbytes = sum((info.bytes_read or 0) + (info.bytes_written or 0) for info in infos)
    return len(distinct.members) * (flops + _FLOPS_PER_BYTE * nbytes)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A block with what it takes to run it."""

    block: Block
    model: Model
    feeds: Feeds


def _prepare(
    graph: OpGraph,
    blocks: Sequence[Block],
    distinct: DistinctBlock,
    activations: Mapping[str, Array],
) -> _Prepared | str:
    """The first repetition all whose inputs were captured, else the first; or why there is none."""
    inputs = {i: stage_io(graph, blocks[i].ops)[0] for i in distinct.members}
    captured = [i for i in distinct.members if all(name in activations for name in inputs[i])]
    chosen = captured[0] if captured else distinct.representative
    block = blocks[chosen]
    try:
        model = extract(graph, block.ops, block.id)
        # in memory as stages get them, not mapped from files
        arrays = {
            name: np.array(activations[name]) for name in inputs[chosen] if name in activations
        }
        feeds: Feeds = arrays
        if len(arrays) < len(inputs[chosen]):
            shapes = {name: array.shape for name, array in arrays.items()}
            feeds = make_inputs(model, shapes) | arrays
    except ValueError as error:
        return str(error)
    except DioeError as error:
        return error.cause
    return _Prepared(block, model, feeds)


def _try_block(
    context: Context, prepared: _Prepared, precisions: Precisions, seconds: float, locked: bool
) -> BlockTiming | DeviceLost | str:
    try:
        return time_block(
            context, prepared.model, precisions, prepared.feeds, budget_s=seconds, locked=locked
        )
    except DeviceLost as error:
        return error
    except (Exception, SystemExit) as error:
        if isinstance(error, DioeError):
            return error.cause
        log.info("block %s failed", prepared.block.id, exc_info=True)
        return f"{type(error).__name__}: {error}"
