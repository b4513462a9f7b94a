"""What a worker writes to stdout and stderr: read so that it never blocks, its end kept."""

from __future__ import annotations

import contextlib
import os
import threading

from dioe.text import printable

KEPT_BYTES = 4096
"""How much of the end of each stream is kept, for the text of an error."""

READ_BYTES = 1 << 16


class Noise:
    """The reading end of one stream. Thread-safe."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.ended = False
        self._tail = b""
        self._lock = threading.Lock()

    def drain(self) -> None:
        """Read what is there, without waiting and without end: one pipe's worth at a time."""
        with self._lock:
            if self.ended:
                return
            try:
                data = os.read(self.descriptor, READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.ended = True
            self._tail = (self._tail + data)[-KEPT_BYTES:]

    def drain_rest(self) -> None:
        """Read what a writer that has ended left behind."""
        for _ in range(1 + (1 << 20) // READ_BYTES):  # a pipe holds 1 MiB at most
            self.drain()

    @property
    def tail(self) -> str:
        """The end of what was written, safe to show."""
        with self._lock:
            text = self._tail.decode("utf-8", "replace")
        return "\n".join(printable(line) for line in text.splitlines())

    def close(self) -> None:
        """Close the descriptor."""
        with self._lock, contextlib.suppress(OSError):
            self.ended = True
            os.close(self.descriptor)
