"""Blocks alone: how one is timed, and in what order and with which exceptions all of them are."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx
import pytest

from dioe.graph import Block, Model, OpGraph, find_blocks, stage_io
from dioe.profiling import (
    BlockKey,
    BlockTiming,
    distinct_blocks,
    profile_blocks,
    time_block,
)
from dioe.types import (
    DONE,
    Array,
    Context,
    DeviceLost,
    Event,
    Feeds,
    Precision,
    Precisions,
    StageModel,
    TensorSpec,
    UnsupportedError,
)
from tests.toys.models import parse, weights, with_weights

FLOAT = np.dtype(np.float32)
Run = Callable[[int], None]


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class Scripted:
    """A context whose runs are scripted, in one with its executable and request."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs = (
        TensorSpec("y", FLOAT, (2, 3)),
        TensorSpec("open", FLOAT, (None, 3)),
        TensorSpec("text", np.dtype(object), (2,)),
        TensorSpec("many", FLOAT, (2,), "sequence"),
    )

    def __init__(self, run: Run = lambda number: None, refuse: BaseException | None = None) -> None:
        self._run = run
        self._refuse = refuse
        self.runs = 0
        self.compiled: list[tuple[StageModel, Precisions, dict[str, Any]]] = []
        self.bound: list[tuple[Feeds, Feeds | None]] = []
        self.closed = 0

    def compile(
        self, model: StageModel, precisions: Precisions, options: Mapping[str, Any]
    ) -> Scripted:
        self.compiled.append((model, precisions, dict(options)))
        if self._refuse is not None:
            raise self._refuse
        return self

    def request(self) -> Scripted:
        return self

    def bind(self, inputs: Feeds, outputs: Feeds | None = None) -> None:
        self.bound.append((inputs, outputs))

    def run(self) -> Event:
        self.runs += 1
        self._run(self.runs)
        return DONE

    def close(self) -> None:
        self.closed += 1


def timed(context: Scripted, **settings: Any) -> BlockTiming:
    settings.setdefault("budget_s", 0.5)
    model = cast(StageModel, object())
    return time_block(cast(Context, context), model, Precisions(), {}, **settings)


# --- one block --------------------------------------------------------------------------------


def test_the_fastest_native_call_is_timed() -> None:
    context = Scripted()
    model = cast(StageModel, object())
    feeds: Feeds = {"x": np.ones(3)}
    precisions = Precisions(Precision.BF16)
    time_block(cast(Context, context), model, precisions, feeds, budget_s=0.1)
    assert context.compiled == [(model, precisions, {})]
    ((inputs, outputs),) = context.bound
    assert inputs is feeds
    assert outputs is not None
    assert set(outputs) == {"y"}  # what has no known shape is the backend's own
    y = outputs["y"]
    assert isinstance(y, np.ndarray)
    assert (y.shape, y.dtype) == ((2, 3), FLOAT)
    assert context.closed == 1


def test_figures_are_those_of_the_runs() -> None:
    found = timed(Scripted(lambda number: spin(0.001)))
    assert 1.0 <= found.p50_ms < 1.5
    assert found.p50_ms <= found.p90_ms <= found.p99_ms
    assert found.spread_ms >= 0
    assert found.runs >= 12


def test_steady_blocks_end_early_and_others_do_not() -> None:
    start = time.perf_counter()
    timed(Scripted(lambda number: spin(0.0005)), budget_s=5.0, settle=0.5)
    assert time.perf_counter() - start < 1.0
    # half of the groups take four times as long: the spread is no accident
    start = time.perf_counter()
    unsteady = Scripted(lambda number: spin(0.004 * (1 + 3 * (number % 2))))
    found = timed(unsteady, budget_s=0.3, settle=0.01)
    assert 0.25 < time.perf_counter() - start < 1.0
    assert found.spread_ms > 8
    assert 4 <= found.p50_ms < 6  # the undisturbed half


def test_first_runs_are_thrown_away() -> None:
    found = timed(Scripted(lambda number: spin(0.05 if number <= 2 else 0.001)))
    assert found.p99_ms < 40


def test_a_slow_block_is_run_as_often_as_the_budget_allows() -> None:
    context = Scripted(lambda number: time.sleep(0.06))
    found = timed(context, budget_s=0.05)
    assert (context.runs, found.runs) == (2, 1)
    context = Scripted(lambda number: time.sleep(0.03))
    assert timed(context, budget_s=0.25).runs in range(2, 8)


@pytest.mark.parametrize("least_runs", [5, 40])
def test_least_runs(least_runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dioe.profiling.blocks.others_share", lambda before, after: 0.0)
    found = timed(Scripted(lambda number: spin(0.005)), settle=10.0, least_runs=least_runs)
    assert least_runs <= found.runs < least_runs + 3


def test_without_the_lock_it_is_noisy() -> None:
    assert timed(Scripted(), locked=False).noisy


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_noise_is_waited_out(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = itertools.chain([0.9, 0.9], itertools.repeat(share))
    monkeypatch.setattr("dioe.profiling.blocks.others_share", lambda before, after: next(shares))
    calls = Scripted(lambda number: spin(0.003 if number < 6 else 0.001))
    found = timed(calls, budget_s=0.3)
    assert found.noisy == bool(share)
    if not share:
        assert found.p99_ms < 2.9  # what was taken in the noise is gone


def test_a_failing_run_closes_the_executable() -> None:
    def fail(number: int) -> None:
        if number == 7:
            raise OSError("lost")

    context = Scripted(fail)
    with pytest.raises(OSError, match="lost"):
        timed(context)
    assert context.closed == 1


# --- all of a model ---------------------------------------------------------------------------


def layers() -> onnx.ModelProto:
    """A small product, three equal large ones, one of another width."""
    model = parse("""
        g (float[4, 8] x) => (float[4, 2] y) {
            a0 = MatMul(x, w0)  r0 = Relu(a0)
            a1 = MatMul(r0, w1) r1 = Relu(a1)
            a2 = MatMul(r1, w2) r2 = Relu(a2)
            a3 = MatMul(r2, w3) r3 = Relu(a3)
            y = MatMul(r3, w4)
        }
    """)
    large = {f"w{i}": weights(64, 64, seed=i) for i in (1, 2, 3)}
    return with_weights(model, w0=weights(8, 64), **large, w4=weights(64, 2, seed=9))


GRAPH = OpGraph.build(Model.load(layers()))
BLOCKS = find_blocks(GRAPH)
DISTINCT = distinct_blocks(BLOCKS)
SMALL, LARGE, LAST = (d.structure_hash for d in DISTINCT)
RNG = np.random.default_rng(5)


def activations() -> dict[str, Array]:
    names = {name for block in BLOCKS for name in stage_io(GRAPH, block.ops)[0]}
    shapes = {name: GRAPH.values[name].shape for name in names}
    return {
        name: RNG.standard_normal(cast(tuple[int, ...], shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


class Profiled:
    """``profile_blocks`` with its callbacks noted."""

    def __init__(self, **contexts: Scripted) -> None:
        self.contexts = contexts
        self.kept: dict[BlockKey, BlockTiming] = {}
        self.told: list[tuple[str, int, int]] = []

    def __call__(
        self,
        *,
        left: Callable[[], float] = lambda: 1e3,
        known: Mapping[BlockKey, BlockTiming] | None = None,
        blocks: Sequence[Block] = BLOCKS,
        given: Mapping[str, Array] | None = None,
        graph: OpGraph = GRAPH,
        takes: Callable[[Block, str], bool] = lambda block, target: True,
    ) -> dict[BlockKey, BlockTiming | str]:
        def keep(key: BlockKey, timing: BlockTiming) -> None:
            assert key not in self.kept
            self.kept[key] = timing

        return profile_blocks(
            graph,
            blocks,
            {n: (cast(Context, c), Precisions()) for n, c in self.contexts.items()},
            activations() if given is None else given,
            budget=left,
            known=(known or {}).get,
            keep=keep,
            takes=takes,
            progress=lambda text, done, total: self.told.append((text, done, total)),
            each_s=0.02,
        )


def test_repeated_blocks_are_one() -> None:
    assert [d.members for d in DISTINCT] == [(0,), (1, 2, 3), (4,)]
    assert [d.representative for d in DISTINCT] == [0, 1, 4]
    assert sorted(i for d in DISTINCT for i in d.members) == list(range(len(BLOCKS)))


def test_most_work_first_and_all_targets_of_a_block_together() -> None:
    run = Profiled(a=Scripted(), b=Scripted())
    found = run()
    order = [(h, t) for h in (LARGE, SMALL, LAST) for t in "ab"]
    assert list(run.kept) == order
    assert found == run.kept
    assert [context.closed for context in run.contexts.values()] == [3, 3]
    assert [(done, total) for _, done, total in run.told] == [(i, 6) for i in range(6)]
    assert run.told[0][0] == "matmul block1 on a"


def test_blocks_get_what_they_get_in_the_model() -> None:
    context = Scripted()
    given = activations()
    Profiled(a=context)(given=given)
    read = [stage_io(GRAPH, BLOCKS[i].ops)[0][0] for i in (1, 0, 4)]
    for name, (inputs, _), (model, _, _) in zip(read, context.bound, context.compiled, strict=True):
        assert list(inputs) == [name]
        np.testing.assert_array_equal(cast(Array, inputs[name]), given[name])
        assert not np.shares_memory(cast(Array, inputs[name]), given[name])
        assert [spec.name for spec in cast(Model, model).inputs] == [name]


def test_a_repetition_whose_inputs_are_there_stands_for_the_others() -> None:
    context = Scripted()
    (third,) = stage_io(GRAPH, BLOCKS[3].ops)[0]
    given = {third: activations()[third]}
    Profiled(a=context)(given=given)
    inputs, _ = context.bound[0]
    np.testing.assert_array_equal(cast(Array, inputs[third]), given[third])


def test_missing_inputs_are_made_up() -> None:
    context = Scripted()
    found = Profiled(a=context)(given={})
    assert len(found) == 3
    inputs, _ = context.bound[0]
    (value,) = inputs.values()
    assert cast(Array, value).shape == (4, 64)
    assert cast(Array, value).std() > 0


def test_what_can_not_be_made_up_is_a_reason() -> None:
    model = parse("""
        g (float[N, 8] x) => (float[A, B] y) {
            s = NonZero(x)
            f = Cast <to: int = 1> (s)
            h = MatMul(f, w)
            y = Relu(h)
        }
    """)
    graph = OpGraph.build(Model.load(with_weights(model, w=weights(8, 8))))
    blocks = (Block("b", ("h", "y"), "matmul", "hash"),)
    context = Scripted()
    found = Profiled(a=context)(graph=graph, blocks=blocks, given={})
    assert isinstance(found["hash", "a"], str | BlockTiming)
    empty = (Block("b", (), "other", "hash"),)
    run = Profiled(a=context, b=Scripted())
    refused = run(graph=graph, blocks=empty, given={})
    assert set(refused) == {("hash", "a"), ("hash", "b")}
    assert all(isinstance(reason, str) for reason in refused.values())
    assert not run.kept


def test_what_is_known_is_not_measured_again() -> None:
    timing = BlockTiming(1.0, 1.1, 1.2, 0.1, 20, False)
    known = {(LARGE, "a"): timing, (SMALL, "a"): timing, (SMALL, "b"): timing}
    run = Profiled(a=Scripted(), b=Scripted())
    found = run(known=known)
    assert set(run.kept) == {(LARGE, "b"), (LAST, "a"), (LAST, "b")}
    assert len(found) == 6
    assert found[SMALL, "b"] is timing
    assert [(done, total) for _, done, total in run.told] == [(0, 3), (1, 3), (2, 3)]
    # what is known costs no time, so it is there without a budget too
    assert Profiled(a=Scripted(), b=Scripted())(known=known, left=lambda: 0.0) == known


def test_what_a_target_doesnt_take_is_left_out_there() -> None:
    """One repetition that it refuses is enough: one timing stands for all."""
    run = Profiled(a=Scripted(), b=Scripted())
    found = run(takes=lambda block, target: target == "b" or block is not BLOCKS[2])
    assert set(found) == {(SMALL, "a"), (LAST, "a"), (SMALL, "b"), (LARGE, "b"), (LAST, "b")}
    assert {total for _, _, total in run.told} == {5}


def test_it_ends_with_the_budget() -> None:
    run = Profiled(a=Scripted(), b=Scripted())
    found = run(left=lambda: 3 - len(run.kept))
    assert list(found) == [(LARGE, "a"), (LARGE, "b"), (SMALL, "a")]


def test_an_interruption_keeps_what_was_measured() -> None:
    def interrupt(number: int) -> None:
        if len(run.kept) == 2:
            raise KeyboardInterrupt

    run = Profiled(a=Scripted(), b=Scripted(interrupt))
    run.contexts["a"] = Scripted(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(run.kept) == [(LARGE, "a"), (LARGE, "b")]
    assert all(c.closed == len(c.compiled) for c in run.contexts.values())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnsupportedError("no such op here", place="p"), "no such op here"),
        (OSError("torn"), "OSError: torn"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_a_target_that_fails_hurts_nothing_else(error: BaseException, reason: str) -> None:
    run = Profiled(bad=Scripted(refuse=error), good=Scripted())
    found = run()
    assert [found[h, "bad"] for h in (SMALL, LARGE, LAST)] == [reason] * 3
    assert set(run.kept) == {(h, "good") for h in (SMALL, LARGE, LAST)}


def test_a_lost_device_is_not_asked_again() -> None:
    run = Profiled(bad=Scripted(refuse=DeviceLost("unplugged")), good=Scripted())
    found = run()
    assert [found[h, "bad"] for h in (SMALL, LARGE, LAST)] == ["unplugged"] * 3
    assert len(run.contexts["bad"].compiled) == 1
    assert len(run.kept) == 3


def test_errors_of_the_callers_own_are_not_a_backends() -> None:
    def broken(key: BlockKey, timing: BlockTiming) -> None:
        raise OSError("disk full")

    contexts = {"a": (cast(Context, Scripted()), Precisions())}
    with pytest.raises(OSError, match="disk full"):
        profile_blocks(
            GRAPH,
            BLOCKS,
            contexts,
            activations(),
            budget=lambda: 1.0,
            known=lambda key: None,
            keep=broken,
            each_s=0.02,
        )
