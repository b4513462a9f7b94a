"""Python's cyclic garbage collector, and what it costs a planner."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused(*, if_: bool = True) -> Iterator[None]:
    """No collections of cycles meanwhile.

    A search makes and drops very many small tuples and lists, none of them in cycles. With a large
    problem in memory the collector looks through all of it again and again, which takes more time
    than the search itself. What isn't in cycles is freed as always.
    """
    if not (if_ and gc.isenabled()):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
