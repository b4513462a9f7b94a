"""Page-locked host memory that copies to and from a device go through without anybody waiting.

A copy from ordinary host memory makes its caller wait until the device has done all before it; one
from page-locked memory is handed over like any other work. Allocating such memory takes longer than
the copy, so that a request keeps its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dioe.types import DONE, Event
from dioe_torch.queues import Queue


class Staging:
    """The page-locked memory of one request: a piece for each of its names and directions."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._pieces: dict[tuple[str, bool], torch.Tensor] = {}
        self._sent: Event = DONE

    def sending(self, name: str, source: torch.Tensor) -> torch.Tensor:
        """What a host tensor holds, in page-locked memory, to be copied from without waiting.

        Waits until the device has read what was there before. After those copies were handed over
        ``sent`` has to be called.
        """
        self._sent.wait()
        piece = self._piece(name, True, source)
        piece.copy_(source)
        return piece

    def sent(self) -> None:
        """All copies from the last pieces were handed over to the queue."""
        self._sent = self._queue.record()

    def fetched(self, results: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The contents of tensors of the device in page-locked memory: all copies are handed over,
        and waited for once. Overwritten by the next call."""
        found = {}
        for name, result in results.items():
            piece = self._piece(name, False, result)
            piece.copy_(result, non_blocking=True)
            found[name] = piece
        self._queue.record().wait()
        return found

    def _piece(self, name: str, sending: bool, like: torch.Tensor) -> torch.Tensor:
        piece = self._pieces.get((name, sending))
        if piece is None or piece.shape != like.shape or piece.dtype != like.dtype:
            piece = torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
            self._pieces[name, sending] = piece
        return piece
