"""The measuring protocol, on a clock of its own where time matters and with real work beside."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.profiling import Calls, Round, Timing, paired_ratio, time_calls, time_in_rounds
from dioe.profiling import rounds as module
from dioe.profiling.rounds import MIN_CALLS


@dataclass
class Clock:
    """Time that passes only where the code under test works."""

    now_ns: int = 10**9

    def perf_counter_ns(self) -> int:
        self.now_ns += 100  # looking at the clock takes time too
        return self.now_ns

    def perf_counter(self) -> float:
        return self.perf_counter_ns() / 1e9

    def work(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@dataclass
class Scene:
    """Contenders of one scene: what was opened in which order, and never two at once."""

    clock: Clock = field(default_factory=Clock)
    visits: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    open_now: str | None = None

    def contender(self, name: str, call_s: float, open_s: float = 0.0) -> Simulated:
        return Simulated(self, name, call_s, open_s)


@dataclass
class Simulated:
    """A contender whose calls and opening take a given time of the scene's clock."""

    scene: Scene
    name: str
    call_s: float
    open_s: float

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        scene = self.scene
        assert scene.open_now is None
        scene.open_now = self.name
        scene.visits.append(self.name)
        scene.clock.work(self.open_s)

        def call() -> None:
            assert scene.open_now == self.name
            scene.calls[self.name] = scene.calls.get(self.name, 0) + 1
            scene.clock.work(self.call_s)

        yield {self.name: call}
        scene.open_now = None


@contextlib.contextmanager
def a_scene(noise: Iterator[float] | None = None) -> Iterator[Scene]:
    """A scene whose rounds meet the given shares of foreign load, none by default."""
    scene = Scene()
    shares = itertools.repeat(0.0) if noise is None else noise
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "time", scene.clock)
        patched.setattr(module, "others_share", lambda before, after: next(shares))
        yield scene


def test_a_first_round_visits_everybody_unless_told_otherwise() -> None:
    for every, visited in ((True, {"a", "b", "c"}), (False, {"a", "b"})):
        with a_scene() as scene:
            contenders = {name: scene.contender(name, 0.001, open_s=0.4) for name in "abc"}
            timings = time_in_rounds(contenders, budget_s=1.1, rounds=3, every=every)
        assert set(timings) == set(scene.visits) == visited


def test_a_budget_of_nothing_still_visits_one() -> None:
    with a_scene() as scene:
        contenders = {name: scene.contender(name, 0.001) for name in "ab"}
        time_in_rounds(contenders, budget_s=0.02, every=False)
        assert scene.visits == ["a"]


def test_the_order_turns_round() -> None:
    with a_scene() as scene:
        contenders = {name: scene.contender(name, 0.001) for name in "abc"}
        told: list[str] = []
        timings = time_in_rounds(contenders, budget_s=2.0, rounds=4, progress=told.append)
    assert "".join(scene.visits) == "abccbaabccba"
    assert told == scene.visits
    assert list(timings) == ["a", "b", "c"]
    for timing in timings.values():
        assert len(timing.rounds) == len(timing.kept) == 4
        assert timing.p50_ms == pytest.approx(1.0, rel=1e-2)
        assert not timing.noisy


def test_the_budget_is_used_and_shared() -> None:
    with a_scene() as scene:
        contenders = {name: scene.contender(name, 0.002, open_s=0.05) for name in "ab"}
        start = scene.clock.now_ns
        time_in_rounds(contenders, budget_s=4.0, rounds=5)
        spent_s = (scene.clock.now_ns - start) / 1e9
    assert spent_s == pytest.approx(4.0, rel=0.15)
    assert scene.calls["a"] == pytest.approx(scene.calls["b"], rel=0.1)


def test_the_slow_are_dropped_after_one_round() -> None:
    with a_scene() as scene:
        contenders = {
            name: scene.contender(name, call_s)
            for name, call_s in {"slow": 0.02, "best": 0.01, "near": 0.0145, "kept": 0.03}.items()
        }
        timings = time_in_rounds(contenders, budget_s=5.0, rounds=3, always=["kept"])
    assert {name: len(t.rounds) for name, t in timings.items()} == {
        "slow": 1,
        "best": 3,
        "near": 3,
        "kept": 3,
    }
    assert timings["slow"].p50_ms == pytest.approx(20.0, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    contenders=st.lists(
        st.tuples(st.floats(1e-4, 2.0), st.floats(0.0, 2.0)), min_size=1, max_size=4
    ),
    budget_s=st.floats(0.0, 20.0),
    rounds=st.integers(1, 5),
    noise=st.integers(0, 2**16),
)
def test_any_budget(
    contenders: list[tuple[float, float]], budget_s: float, rounds: int, noise: int
) -> None:
    """Everybody gets a round, nobody more than allowed, and the budget holds within a round."""
    shares = (0.5 * (noise >> i & 1) for i in itertools.count())
    with a_scene(shares) as scene:
        start = scene.clock.now_ns
        timings = time_in_rounds(
            {
                str(i): scene.contender(str(i), call_s, open_s)
                for i, (call_s, open_s) in enumerate(contenders)
            },
            budget_s=budget_s,
            rounds=rounds,
        )
        spent_s = (scene.clock.now_ns - start) / 1e9
    first = [str(i) for i in range(len(contenders))]
    assert scene.visits[: len(first)] == first
    for timing in timings.values():
        assert 1 <= len(timing.rounds) <= 2 * rounds
        assert timing.runs >= MIN_CALLS
    # the shortest possible round of everybody, with the calls that run over its end
    least_s = sum(open_s + 9 * call_s + 0.1 for call_s, open_s in contenders)
    first_s = max(0.05, budget_s / (rounds * len(first)) / 2) * len(first)
    assert spent_s <= max(budget_s, first_s + least_s) + least_s


def test_slow_contenders_stay_within_the_budget() -> None:
    with a_scene() as scene:
        # one round takes 8 calls: 8 s
        contenders = {name: scene.contender(name, 0.5) for name in "ab"}
        start = scene.clock.now_ns
        time_in_rounds(contenders, budget_s=12.0)
        assert (scene.clock.now_ns - start) / 1e9 < 12.0
    assert scene.visits == ["a", "b"]


def test_noisy_rounds_are_taken_again_and_left_out() -> None:
    # a is disturbed in its 2nd round: order a b, b a, a b
    with a_scene(iter([0, 0, 0, 0.2, 0, 0, *[0.0] * 99])) as scene:
        contenders = {name: scene.contender(name, 0.001) for name in "ab"}
        timings = time_in_rounds(contenders, budget_s=3.0, rounds=3)
    assert "".join(scene.visits) == "abbaabba"
    assert [r.noisy for r in timings["a"].rounds] == [False, True, False, False]
    assert len(timings["a"].kept) == 3
    assert len(timings["b"].rounds) == 4  # both met the same seconds
    assert not timings["a"].noisy


def test_calls_of_one_contender_take_turns() -> None:
    class Pair(Simulated):
        @contextlib.contextmanager
        def open(self) -> Iterator[Calls]:
            with super().open() as calls:
                (call,) = calls.values()

                def twice() -> None:
                    call()
                    call()

                yield {"once": call, "twice": twice}

    with a_scene() as scene:
        pair = Pair(scene, "a", 0.001, 0.0)
        timings = time_in_rounds({"a": pair, "b": scene.contender("b", 0.0012)}, budget_s=4.0)
    assert set(timings) == {"once", "twice", "b"}
    assert len(timings["once"].rounds) == len(timings["twice"].rounds) == len(timings["b"].rounds)
    assert timings["once"].p50_ms == pytest.approx(1.0, rel=1e-2)
    assert timings["twice"].p50_ms == pytest.approx(2.0, rel=1e-2)


def test_always_noisy() -> None:
    with a_scene(itertools.repeat(0.06)) as scene:
        contenders = {name: scene.contender(name, 0.001) for name in "ab"}
        timings = time_in_rounds(contenders, budget_s=3.0, rounds=2)
    for timing in timings.values():
        assert timing.noisy
        assert timing.kept == timing.rounds
        assert 2 <= len(timing.rounds) <= 5
        assert timing.summary()["noisy"]


def test_without_the_lock_every_round_is_noisy() -> None:
    with a_scene() as scene:
        timings = time_in_rounds(
            {"a": scene.contender("a", 0.001)}, budget_s=1.0, rounds=2, locked=False
        )
    assert timings["a"].noisy


def test_one_disturbed_round_does_not_condemn() -> None:
    """A contender slowed down by a neighbour in its first round stays, if one call was fast."""

    @dataclass
    class Disturbed(Simulated):
        @contextlib.contextmanager
        def open(self) -> Iterator[Calls]:
            first = self.name not in self.scene.visits
            with super().open() as calls:
                turn = itertools.count()
                (call,) = calls.values()

                def slowed() -> None:
                    call()
                    if first and next(turn) % 4:
                        self.scene.clock.work(0.05)

                yield {self.name: slowed}

    with a_scene(iter([0.5, *[0.0] * 99])) as scene:
        contenders = {
            "a": Disturbed(scene, "a", 0.01, 0.0),
            "b": scene.contender("b", 0.012),
        }
        timings = time_in_rounds(contenders, budget_s=5.0, rounds=3)
    assert timings["a"].p50_ms == pytest.approx(10, rel=0.01)
    assert len(timings["a"].kept) == 3


def test_an_error_closes_the_contender_and_comes_out() -> None:
    closed: list[bool] = []

    class Failing:
        @contextlib.contextmanager
        def open(self) -> Iterator[Calls]:
            def call() -> None:
                raise OSError("the device is gone")

            try:
                yield {"a": call}
            finally:
                closed.append(True)

    with pytest.raises(OSError, match="gone"):
        time_in_rounds({"a": Failing()}, budget_s=1.0)
    assert closed == [True]
    assert time_in_rounds({}, budget_s=1.0) == {}


def test_real_work() -> None:
    """Contenders that really burn the processor, one of them twice as long."""
    busy: list[str] = []

    @dataclass
    class Burner:
        name: str
        seconds: float

        @contextlib.contextmanager
        def open(self) -> Iterator[Calls]:
            assert not busy
            busy.append(self.name)

            def call() -> None:
                end = time.thread_time() + self.seconds
                while time.thread_time() < end:
                    pass

            yield {self.name: call}
            busy.remove(self.name)

    contenders = {"a": Burner("a", 0.002), "b": Burner("b", 0.004)}
    start = time.perf_counter()
    timings = time_in_rounds(contenders, budget_s=0.8, rounds=2, always=["a", "b"])
    assert time.perf_counter() - start < 10  # however busy the machine is
    for name, timing in timings.items():
        # no call can take less than what it burns
        assert timing.percentile_ms(0) >= contenders[name].seconds * 1e3 * 0.99
        assert timing.runs >= MIN_CALLS
        assert math.isfinite(timing.spread_ms)


def samples(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(values, np.float64)


def test_figures_of_a_timing() -> None:
    timing = Timing(
        [
            Round(samples(1, 2, 9), noisy=False),
            Round(samples(3, 4, 5, 6, 7), noisy=False),
            Round(samples(100, 100, 100), noisy=True),
        ]
    )
    assert timing.rounds[0].median_ms == 2
    assert timing.summary() == {
        # a quarter of the way from the lower to the higher round
        "p50_ms": pytest.approx(2 + (5 - 2) / 4),
        "p90_ms": pytest.approx(6.6 + (7.6 - 6.6) / 4),
        "p99_ms": pytest.approx(6.96 + (8.86 - 6.96) / 4),
        "spread_ms": 3.0,
        "runs": 8,
        "noisy": False,
    }


def test_calls_are_counted_and_timed_in_ms() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.004)

    start = time.perf_counter()
    times_ms = time_calls(call, seconds=0.1, warm=False)
    wall_ms = (time.perf_counter() - start) * 1e3
    assert calls == len(times_ms) >= MIN_CALLS
    assert times_ms.dtype == np.float64
    assert times_ms.min() >= 4.0
    assert max(100.0, times_ms.sum()) <= wall_ms
    calls = 0
    times_ms = time_calls(call, seconds=0.0, min_calls=7)
    assert len(times_ms) == 7
    assert calls == 7 + 3  # warm-up calls aren't among the samples


def test_no_garbage_is_collected_while_timing() -> None:
    seen: set[bool] = set()
    assert gc.isenabled()
    time_calls(lambda: seen.add(gc.isenabled()), seconds=0.0, warm=False)
    assert seen == {False}
    assert gc.isenabled()

    def fail() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        time_calls(fail, seconds=0.1, warm=False)
    assert gc.isenabled()
    gc.disable()
    try:
        time_calls(lambda: None, seconds=0.0)
        assert not gc.isenabled()  # as the caller had it
    finally:
        gc.enable()


def _timing(medians: list[float], noisy: frozenset[int] = frozenset()) -> Timing:
    return Timing([Round(np.array([m] * 3), i in noisy) for i, m in enumerate(medians)])


@given(
    st.lists(st.floats(0.5, 3.0), min_size=3, max_size=12),
    st.floats(0.2, 5.0),
    st.floats(0.01, 100.0),
)
def test_neighbouring_rounds_cancel_what_the_machine_does(
    speeds: list[float], ratio: float, base_ms: float
) -> None:
    base = _timing([base_ms * s for s in speeds])
    other = _timing([ratio * base_ms * s for s in speeds])
    assert paired_ratio(other, base) == pytest.approx(ratio)


def test_a_disturbed_round_does_not_count_in_a_paired_ratio() -> None:
    base, other = _timing([1, 1, 1, 1]), _timing([2, 2, 900, 2], noisy=frozenset({2}))
    assert paired_ratio(other, base) == 2


def test_calls_without_rounds_in_common_are_compared_by_their_medians() -> None:
    base, other = _timing([1, 1, 3, 3]), _timing([4])
    assert paired_ratio(other, base) == pytest.approx(4 / base.p50_ms)
