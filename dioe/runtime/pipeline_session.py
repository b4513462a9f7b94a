"""A session over a whole pipeline."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from dioe.runtime.flow import Clock, Flow, RunModel
from dioe.runtime.memory import TransferReport
from dioe.runtime.session import Session
from dioe.types import InputError, PipelinePlan, Value

_DRAIN_S = 60.0


class PipelineSession:
    """Runs a pipeline by its plan. Thread-safe; made by ``dioe.compile``, closed by ``close``.

    Nodes run one after the other in the caller's thread; runs of several threads overlap. Values go
    from node to node as they are, without copies in the host's memory.
    """

    def __init__(self, flow: Flow, plan: PipelinePlan, sessions: Mapping[str, Session]) -> None:
        """``sessions`` are the models' by node; this closes them."""
        self.plan = plan
        self._flow = flow
        self._sessions = dict(sessions)
        self._models: dict[str, RunModel] = {
            name: _runs(session, flow.outputs[name]) for name, session in self._sessions.items()
        }
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._running = 0
        self._closed = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """Full names of the inputs; each may be fed by its value's name alone where unique."""
        return self._flow.pipeline.inputs

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The session of each model by its node."""
        return dict(self._sessions)

    @property
    def transfers(self) -> Mapping[str, tuple[TransferReport, ...]]:
        """By node, the copies between memories of devices that its runs made so far."""
        return {name: session.transfers for name, session in self._sessions.items()}

    def run(
        self, feeds: Mapping[str, Any], output_names: Sequence[str] | None = None
    ) -> dict[str, Value]:
        """Run the pipeline once; from any thread.

        ``feeds`` maps each input, ``node.input`` or ``input`` where that is unique, to its value.
        Gives all outputs by their full names, or those named, under the names given: the caller's
        to keep. What a callable raises is passed on with a note that names its node; InputError and
        what backends raise have the node as their place.
        """
        return self.run_timed(feeds, None, output_names)

    def run_timed(
        self,
        feeds: Mapping[str, Any],
        clock: Clock | None,
        output_names: Sequence[str] | None = None,
    ) -> dict[str, Value]:
        """``run``; ``clock`` gets the milliseconds of each node added."""
        with self._lock:
            self._check_open()
            self._running += 1
        try:
            results = self._flow.run(feeds, self._models, clock)
            return results if output_names is None else self._flow.picked(results, output_names)
        finally:
            with self._lock:
                self._running -= 1
                if self._closed:
                    self._drained.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("the session is closed", fix="compile the pipeline again")

    def reset_state(self) -> None:
        """Set the declared state of all models back to zeros."""
        for name in self._flow.state:
            self._sessions[name].reset_state()

    def wait_for_tuning(self, timeout_s: float | None = None) -> bool:
        """Wait until shapes that came later are tuned, as ``Session.wait_for_tuning`` does; up to
        ``timeout_s`` seconds for each model."""
        waited = [each.wait_for_tuning(timeout_s) for each in self._sessions.values()]
        return all(waited)

    def close(self) -> None:
        """Wait for runs in flight (a minute at most), then free everything."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._drained.wait_for(lambda: self._running == 0, timeout=_DRAIN_S)
        with contextlib.ExitStack() as closing:  # all, even if one fails to
            for session in self._sessions.values():
                closing.callback(session.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _runs(session: Session, names: tuple[str, ...]) -> RunModel:
    return lambda feeds: session.run(feeds, names) if names else {}
