"""Runs of a request replayed from a captured graph: one call in place of one for each operator.

The first run of some shapes is watched, the second one is captured, on tensors that stay where they
are; from then on inputs are copied into these and the graph is replayed. What can't be captured
runs op by op for ever, and ``note`` says why.
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import torch

from dioe_cuda.watch import Watch
from dioe_torch.errors import run_error
from dioe_torch.queues import Queue
from dioe_torch.runs import Run

Signature: TypeAlias = tuple[tuple[torch.Size, torch.dtype], ...]

_capturing = threading.Lock()
"""While one thread captures nobody may wait for the whole device, as a capture does to begin."""


class Graph(Protocol):
    """What is used of ``torch.cuda.CUDAGraph``."""

    def replay(self) -> None: ...
    def reset(self) -> None: ...


class Graphs(Protocol):
    """What is used of ``torch.cuda`` to capture a graph."""

    def CUDAGraph(self) -> Graph: ...  # noqa: N802 - torch's name
    def graph(
        self, cuda_graph: Any, *, stream: Any, capture_error_mode: str
    ) -> AbstractContextManager[Any]: ...


class Replayed:
    """The runs of one request (see ``dioe_torch.runs.Runner``); for one thread at a time."""

    def __init__(self, run: Run, queue: Queue, graphs: Graphs) -> None:
        """``queue`` has a stream of its own; ``graphs`` is torch's module of its device."""
        self.note: str | None = None
        self._run, self._queue, self._graphs = run, queue, graphs
        self._seen: Signature | None = None  # of the last run
        self._refused: dict[Signature, str] = {}
        self._graph: Graph | None = None
        self._of: Signature | None = None  # what the graph is for
        self._inputs: list[torch.Tensor] = []
        self._outputs: Sequence[Any] = ()

    def place_of(self, index: int, like: torch.Tensor) -> torch.Tensor | None:
        """The tensor that the graph reads an input from, where that has its shape and dtype."""
        if self._graph is None:
            return None
        place = self._inputs[index]
        return place if (place.shape, place.dtype) == (like.shape, like.dtype) else None

    def __call__(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """The outputs; those of a graph are overwritten by its next run."""
        if not all(isinstance(each, torch.Tensor) for each in inputs):
            self.note = "sequences and missing values aren't captured"
            return self._run(inputs)
        signature = tuple((each.shape, each.dtype) for each in inputs)
        again, self._seen = signature == self._seen, signature
        if self._graph is not None and signature == self._of:
            self.note = ""
            return self._replay(inputs)
        if signature in self._refused:
            self.note = self._refused[signature]
            return self._run(inputs)
        if not again:
            return self._watched(signature, inputs)
        reason = self._capture(signature, inputs)
        if reason:
            self._refuse(signature, reason)
            return self._run(inputs)
        return self._replay(inputs)

    def _watched(self, signature: Signature, inputs: Sequence[Any]) -> Sequence[Any]:
        """A run op by op, which also loads kernels and chooses algorithms: both aren't captured."""
        self.note = None
        with Watch() as watch:
            outputs = self._run(inputs)
        if watch.reason:
            self._refuse(signature, watch.reason)
        return outputs

    def _refuse(self, signature: Signature, reason: str) -> None:
        self._refused[signature] = self.note = reason

    def _capture(self, signature: Signature, inputs: Sequence[torch.Tensor]) -> str:
        """Why no graph could be captured; empty if one was."""
        self.reset()
        graph = self._graphs.CUDAGraph()
        places = [torch.empty_like(each).copy_(each) for each in inputs]
        try:
            with (
                _capturing,
                self._graphs.graph(
                    graph, stream=self._queue.stream, capture_error_mode="thread_local"
                ),
            ):
                outputs = self._run(places)
        except Exception as error:  # noqa: BLE001 - torch raises what it likes, and op by op works
            return f"capturing failed: {run_error(error, '').cause}"
        self._graph, self._of, self.note = graph, signature, ""
        self._inputs, self._outputs = places, outputs
        return ""

    def _replay(self, inputs: Sequence[torch.Tensor]) -> Sequence[Any]:
        assert self._graph is not None
        for place, given in zip(self._inputs, inputs, strict=True):
            if place is not given:
                place.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def reset(self) -> None:
        """Let go of the graph and its memory."""
        graph, self._graph = self._graph, None
        self._of, self._inputs, self._outputs = None, [], ()
        if graph is not None:
            self._queue.finish()
            graph.reset()
