"""The same inputs give the same bits, from run to run, request to request, thread to thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dioe.graph import Model
from dioe.testing.models import floats, perceptron, relu, small_network
from dioe.testing.subject import Subject, run
from dioe.types import Precisions, Resources

pytestmark = pytest.mark.correctness

NETWORKS: dict[str, tuple[Callable[[], Model], tuple[int, ...]]] = {
    "convolutions": (small_network, (1, 3, 16, 16)),
    "perceptron": (perceptron, (7, 32)),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits(subject: Subject, network: str, threads: int) -> None:
    """Over runs, requests, and what ran in between."""
    made, shape = NETWORKS[network]
    executable = subject.compile(made(), resources=Resources(threads=threads, spin=False))
    first = executable.request()
    feeds, others = {"x": floats(*shape, seed=1)}, {"x": floats(*shape, seed=2)}
    wanted = run(first, feeds)["y"].copy()
    for _ in range(5):
        run(first, others)
        np.testing.assert_array_equal(run(first, feeds)["y"], wanted)
        np.testing.assert_array_equal(run(executable.request(), feeds)["y"], wanted)


def _together(works: list[Callable[[], None]]) -> None:
    """Run all at once, each in a thread; raise what the first that failed raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def guarded(work: Callable[[], None]) -> None:
        try:
            start.wait(30)
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("network", NETWORKS)
def test_requests_of_several_threads(subject: Subject, network: str) -> None:
    """Requests made and run at the same time, one a thread, don't mix their values."""
    made, shape = NETWORKS[network]
    executable = subject.compile(made(), resources=Resources(threads=1, streams=2))
    feeds = [{"x": floats(*shape, seed=i)} for i in range(4)]
    reference = executable.request()
    expected = [run(reference, feed)["y"].copy() for feed in feeds]

    def work(i: int) -> None:
        request: Any = executable.request()
        request.bind(feeds[i])
        for _ in range(10):
            request.run().wait()
            np.testing.assert_allclose(run(request, feeds[i])["y"], expected[i], rtol=1e-4)
            if hasattr(request, "call"):
                found = request.call(feeds[i], ["y"])[0]
                np.testing.assert_allclose(found, expected[i], rtol=1e-4)

    _together([lambda i=i: work(i) for i in range(4)])  # type: ignore[misc]


def test_compiling_in_several_threads(subject: Subject) -> None:
    """One context compiles and closes from several threads at once."""
    subject.take(relu("N"))
    context = subject.open()

    def work(rows: int) -> None:
        for _ in range(3):
            executable = context.compile(relu("N"), Precisions(), {})
            x = floats(rows, 4, seed=rows)
            found = run(executable.request(), {"x": x})["y"]
            np.testing.assert_array_equal(found, np.maximum(x, 0))
            executable.close()

    _together([lambda i=i: work(i + 1) for i in range(3)])  # type: ignore[misc]
