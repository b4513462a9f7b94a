"""Preparing variants in the background for shapes that a session met without one.

The thread lives only while there is something to do, is a daemon, and is ended by the session's
``close`` or, before anything it uses is torn down, at the exit of the interpreter.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dioe.graph import Model
from dioe.runtime.variant import Variant
from dioe.runtime.variants import ShapeKey
from dioe.types import Array, DioeError, Feeds, Plan

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 256 * 2**20
"""Copies of inputs that wait to be measured on; what doesn't fit is asked for again later."""

MAX_FAILURES = 8
"""After so many shapes that could not be prepared, a session gives up preparing any."""

MAX_SETTLED = 4096
"""Shapes remembered to stay as they are, because they failed or have nothing to gain."""

QUIET_WINDOW_S = 0.02
QUIET_SHARE = 0.25
"""Quiet is a window in which no run was in flight and the process used less than this share of one
core: an idle Python process uses under 1 %."""

MAX_QUIET_WAIT_S = 1.0
"""Longest wait for a quiet moment; in a session that never rests, work goes on without one."""


class Stopped(Exception):
    """The session is being closed: give up and free what was loaded."""


@dataclass(frozen=True, slots=True)
class NewShape:
    """Shapes that came without a variant of their own, and what helps to prepare one.

    ``feeds`` is a copy of the inputs of their first run, ``model`` has their shapes bound.
    ``load`` compiles a plan for them. ``safe`` is the variant they run on now. ``quiet`` waits for
    a quiet moment and says whether there was one; ``pause`` is to be called between steps, lets
    runs in flight pass, and says whether there were any. Both raise Stopped.
    """

    feeds: Mapping[str, Array | None]
    model: Model
    load: Callable[[Plan], Variant]
    safe: Variant | None
    quiet: Callable[[], bool]
    pause: Callable[[], bool]


class ShapeTuner(Protocol):
    """What decides how shapes that come later are run; called by one thread at a time."""

    @property
    def most_variants(self) -> int:
        """How many prepared variants a session may keep."""
        ...

    def prepare(self, new: NewShape) -> Variant | None:
        """A variant for exactly these shapes whose outputs were checked; None to leave them as they
        are. Raises what goes wrong, Stopped among it, with everything it loaded closed."""
        ...


class Background:
    """The queue of one session and the thread that works it off, shape by shape.

    ``prepare`` does the work for one shape and publishes it; ``busy`` tells how many runs are in
    flight; ``eldest`` names the shape that would have to go for one more than that many others,
    None while there is room.
    """

    def __init__(
        self,
        prepare: Callable[[ShapeKey, Mapping[str, Array | None]], bool],
        *,
        busy: Callable[[], int],
        eldest: Callable[[int], ShapeKey | None],
    ) -> None:
        self._prepare, self._busy, self._eldest = prepare, busy, eldest
        self._popularity = Popularity()
        self._settled: set[ShapeKey] = set()
        self._failures = 0
        self._stopping = False
        self._reset()
        _alive.add(self)

    def _reset(self) -> None:
        """No thread and nothing waiting: at first, and in a forked child."""
        self._idle = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting: deque[tuple[ShapeKey, Mapping[str, Array | None], int]] = deque()
        self._waiting_bytes = 0
        self._taken: set[ShapeKey] = set()

    def note(self, key: ShapeKey) -> None:
        """A run of these shapes has a variant of its own already: count it."""
        self._popularity.note(key)

    def offer(self, key: ShapeKey, feeds: Feeds) -> None:
        """A run of these shapes has no variant of its own: copy its inputs and queue them.

        Does nothing where that is under way or settled, and raises nothing.
        """
        self._popularity.note(key)
        if self._stopping or key in self._taken or key in self._settled or not self._worth(key):
            return
        nbytes = sum(value.nbytes for value in feeds.values() if isinstance(value, np.ndarray))
        try:
            with self._idle:
                if key in self._taken or self._stopping:
                    return
                if nbytes > MAX_WAITING_BYTES:
                    self._settle(key)
                    log.info("inputs of %d bytes are too large to tune on", nbytes)
                    return
                if self._waiting_bytes + nbytes > MAX_WAITING_BYTES:
                    return
                copied = _copied(feeds)
                if copied is None:
                    self._settle(key)
                    return
                self._taken.add(key)
                self._waiting.append((key, copied, nbytes))
                self._waiting_bytes += nbytes
                if self._thread is None:
                    self._start()
        except (MemoryError, RuntimeError) as error:  # no memory for the copy; no more threads
            log.info("shape %s is not tuned: %s", key, error)

    def _worth(self, key: ShapeKey) -> bool:
        """True while there is room, or for shapes that come more often than the one to go.

        Without this, one shape more than there is room for would have all of them compiled anew
        again and again. The margin of one keeps shapes that take turns from replacing each other.
        """
        waiting = len(self._taken)
        eldest = self._eldest(waiting)
        if eldest is None:
            return True
        return not waiting and self._popularity.of(key) > self._popularity.of(eldest) + 1

    def _settle(self, key: ShapeKey) -> None:
        if len(self._settled) >= MAX_SETTLED:
            self._settled.clear()
        self._settled.add(key)

    def _start(self) -> None:
        global _exit_is_known  # noqa: PLW0603 - once a process
        if not _exit_is_known:
            # Exit handlers run last in, first out: by now the runtime's own is known.
            atexit.register(_stop_all)
            _exit_is_known = True
        self._thread = threading.Thread(target=self._work, name="dioe-tuning", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            self._waiting.clear()
            self._waiting_bytes = 0
            self._stopping = True
            raise

    def _work(self) -> None:
        while True:
            with self._idle:
                if self._stopping or not self._waiting:
                    self._thread = None
                    self._idle.notify_all()
                    return
                key, feeds, nbytes = self._waiting.popleft()
            published = self._try(key, feeds)
            with self._idle:
                self._waiting_bytes -= nbytes
                if not published:
                    self._settle(key)
                self._taken.discard(key)
            del feeds

    def _try(self, key: ShapeKey, feeds: Mapping[str, Array | None]) -> bool:
        try:
            return self._prepare(key, feeds)
        except Stopped:
            return False
        except (Exception, SystemExit) as error:  # a plugin's as well: no run may suffer from it
            self._failures += 1
            log.warning("shapes %s stay on the safe variant: %s", list(key), error)
            log.debug("that was", exc_info=not isinstance(error, DioeError))
            if self._failures >= MAX_FAILURES:
                log.warning("%d shapes failed: no more are tuned in the background", MAX_FAILURES)
                self._stopping = True
            return False

    # --- for the one who works ---------------------------------------------------------------

    def pause(self) -> bool:
        """Let runs in flight pass, for a while. True if there were any. Raises Stopped."""
        if self._stopping:
            raise Stopped
        if not self._busy():
            return False
        self.quiet()
        return True

    def quiet(self) -> bool:
        """Wait for a quiet moment. False if there was none in time. Raises Stopped."""
        end = time.monotonic() + MAX_QUIET_WAIT_S
        while True:
            if self._stopping:
                raise Stopped
            calm = not self._busy()
            before_s, start_s = time.process_time(), time.monotonic()
            time.sleep(QUIET_WINDOW_S)
            used_s, passed_s = time.process_time() - before_s, time.monotonic() - start_s
            if calm and not self._busy() and used_s <= QUIET_SHARE * passed_s:
                return True
            if time.monotonic() > end:
                return False

    # --- for the session ---------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is waiting or under way; False if that takes longer."""
        with self._idle:
            return self._idle.wait_for(lambda: self._thread is None, timeout_s)

    def stop(self) -> None:
        """Take nothing more, and wait for what is under way: one compilation, or one round."""
        self._stopping = True
        with self._idle:
            self._waiting.clear()
            self._waiting_bytes = 0
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()


class Popularity:
    """How often each shape was switched to, earlier switches counting less and less.

    Runs of the same shape in a row are one: a variant in use isn't looked up again. Counts are
    approximate where several threads note at once.
    """

    def __init__(self, horizon: int = 512) -> None:
        self._horizon = horizon
        self._counts: dict[ShapeKey, int] = {}
        self._noted = 0
        self._last: ShapeKey | None = None

    def note(self, key: ShapeKey) -> None:
        """Count a switch to ``key``; after every ``horizon`` of them, all counts are halved."""
        if key == self._last:
            return
        self._last = key
        counts = self._counts
        counts[key] = counts.get(key, 0) + 1
        self._noted += 1
        if self._noted >= self._horizon:
            self._noted = 0
            self._counts = {k: n // 2 for k, n in counts.copy().items() if n > 1}

    def of(self, key: ShapeKey) -> int:
        """The count of ``key``."""
        return self._counts.get(key, 0)


def _copied(feeds: Feeds) -> dict[str, Array | None] | None:
    """Copies of the inputs; None if one is neither an array nor left out."""
    copied: dict[str, Array | None] = {}
    for name, value in feeds.items():
        if isinstance(value, np.ndarray):
            copied[name] = value.copy()
        elif value is None:
            copied[name] = None
        else:
            return None
    return copied


_alive: weakref.WeakSet[Background] = weakref.WeakSet()
_exit_is_known = False


def _stop_all() -> None:
    for background in list(_alive):
        background.stop()


def _forget_threads() -> None:
    """In a forked child: the threads of the parent aren't here, and their locks may be held."""
    for background in list(_alive):
        background._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
