"""The benchmark of contexts side by side: its network, and its count of calls."""

from __future__ import annotations

import os
import threading
import time

import pytest

from benchmarks.contexts import LAYERS, network, rates

CORES = sorted(os.sched_getaffinity(0))


def test_the_network_has_weights_that_keep_their_scale() -> None:
    made = network()
    assert len(made.op_ids) == 2 * LAYERS
    weights = [v.const_value for v in made.ir.graph.initializers.values()]
    assert all(w is not None and 0.05 < w.numpy().std() < 0.2 for w in weights)


def test_threads_stay_on_their_cores_and_their_calls_add_up() -> None:
    seen: set[tuple[int, frozenset[int]]] = set()

    def work() -> None:
        seen.add((threading.get_ident(), frozenset(os.sched_getaffinity(0))))
        time.sleep(0.01)

    two = rates([work, work], [CORES[0], CORES[-1]], 0.1)
    assert 50 < two < 200
    assert len({thread for thread, _ in seen}) == 2
    assert {cores for _, cores in seen} == {frozenset({CORES[0]}), frozenset({CORES[-1]})}
    assert os.sched_getaffinity(0) == set(CORES)


def test_what_fails_in_a_thread_is_raised() -> None:
    def work() -> None:
        raise ValueError("broken")

    with pytest.raises((ValueError, threading.BrokenBarrierError)):
        rates([work, work], [CORES[0], CORES[-1]], 0.1)
