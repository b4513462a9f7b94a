"""Searches in other processes, with other seeds: started, heard, and gone when the caller is."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

from dioe.planning.splits.instance import Instance
from dioe.planning.splits.objectives import ObjectiveName
from dioe.planning.splits.search import Found, search
from dioe.types import OutOfMemory

_log = logging.getLogger(__name__)

_EARLY_S, _LATE_S = 0.2, 0.2
"""How long before the deadline a helper ends, so that its answer is there in time, and how long
past it one is waited for."""

_SEED_STEP = 1_000_003
"""Between the seeds of processes, so that those of neighbouring seeds differ."""


def seed_of(seed: int, process: int) -> int:
    """The seed of a process; that of process 0 is the one given."""
    return seed + process * _SEED_STEP


class Helpers:
    """Processes that search, inside a ``with`` block; whatever ends it, they end with it.

    Where a process can't be started or dies, the search goes on without it.
    """

    def __init__(
        self,
        instance: Instance,
        objective: ObjectiveName,
        numbers: Iterable[int],
        seed: int,
        seconds: float,
        moves: float,
    ) -> None:
        self._deadline = time.time() + seconds  # the clock that processes share
        self._running: list[tuple[BaseProcess, Connection]] = []
        context = multiprocessing.get_context("spawn")
        try:
            for number in numbers:
                mine, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_help,
                    args=(
                        theirs,
                        instance,
                        objective,
                        seed_of(seed, number),
                        self._deadline,
                        moves,
                    ),
                    daemon=True,
                )
                process.start()
                theirs.close()
                self._running.append((process, mine))
        except OSError as error:
            _log.warning("no process more to search in: %s", error)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Helpers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def found(self) -> list[Found]:
        """What the processes found, in their order; waits for them, but not past the deadline."""
        answers = []
        for process, pipe in self._running:
            left = max(0.0, self._deadline + _LATE_S - time.time())
            try:
                answer = pipe.recv() if pipe.poll(min(left, _LONGEST_S)) else None
            except (EOFError, OSError):
                answer = None
            if answer is None:
                died = process.exitcode is not None  # else it is late, as where time is short
                level = logging.WARNING if died else logging.INFO
                _log.log(level, "a process that searched gave no answer (%s)", process.exitcode)
            elif isinstance(answer, Found):
                answers.append(answer)
        return answers

    def _end(self) -> None:
        for process, pipe in self._running:
            process.kill()
            process.join()
            process.close()
            pipe.close()
        self._running = []


_LONGEST_S = 1e6
"""A wait that ``poll`` takes; without a time limit it is for as long as the work takes."""


def _help(
    pipe: Connection,
    instance: Instance,
    objective: ObjectiveName,
    seed: int,
    deadline: float,
    moves: float,
) -> None:
    """Search and send what was found, or that nothing fits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: Found | str
    try:
        answer = search(
            instance, objective, seed, seconds=deadline - _EARLY_S - time.time(), moves=moves
        )
    except OutOfMemory as error:
        answer = error.cause
    with contextlib.suppress(BrokenPipeError):  # who asked is gone
        pipe.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody is left to take an answer
