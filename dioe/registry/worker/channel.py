"""One channel to a worker: a frame out, a frame back, never longer than the deadline."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from dioe.registry.worker.noise import Noise
from dioe.registry.worker.script import PREFIX, body_length, decode_body

POLL_S = 0.5
"""How often the process is looked at where no descriptor tells that it has ended."""


class Late(Exception):
    """The deadline has passed."""


class Channel:
    """A socket, and what else to look at while waiting for it. One call at a time."""

    def __init__(
        self,
        near: socket.socket,
        ended: int | None,
        noises: Sequence[Noise],
        running: Callable[[], bool],
    ) -> None:
        self._socket = near
        self._fileno = near.fileno()
        self._ended = ended
        self._noises = {noise.descriptor: noise for noise in noises if not noise.ended}
        self._running = running
        self._poll = select.poll()
        for descriptor in (self._fileno, ended, *self._noises):
            if descriptor is not None:
                self._poll.register(descriptor, select.POLLIN)

    def send(self, data: bytes, descriptors: Sequence[int], deadline: float) -> None:
        """Send a frame, descriptors with its first byte. Raises Late, OSError."""
        frame = memoryview(data)
        self._socket.settimeout(_left(deadline))
        try:
            if descriptors:
                frame = frame[socket.send_fds(self._socket, [frame], list(descriptors)) :]
            if frame:
                self._socket.sendall(frame)
        except TimeoutError:
            raise Late from None

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next frame. Raises Late, EOFError, OSError, ProtocolError."""
        prefix = self._read(PREFIX.size, deadline)
        return decode_body(self._read(body_length(bytes(prefix)), deadline))

    def _read(self, nbytes: int, deadline: float) -> bytearray:
        data = bytearray(nbytes)
        rest = memoryview(data)
        while rest:
            self._wait(deadline)
            got = self._socket.recv_into(rest)
            if not got:
                raise EOFError("it closed the connection")
            rest = rest[got:]
        return data

    def _wait(self, deadline: float) -> None:
        """Return when there's something to read; raise EOFError if the process ends before."""
        while True:
            left = _left(deadline)
            patience = left if self._ended is not None else min(left, POLL_S)
            ready = dict(self._poll.poll(patience * 1000))
            if self._fileno in ready:
                return
            for descriptor in ready.keys() & self._noises.keys():
                noise = self._noises[descriptor]
                noise.drain()
                if noise.ended:
                    self._poll.unregister(descriptor)
                    del self._noises[descriptor]
            if self._ended in ready or (self._ended is None and not self._running()):
                raise EOFError("it ended")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Late
    return left
