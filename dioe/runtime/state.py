"""Recurrent state: outputs of one run that are inputs of the next."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from dioe.graph import Model
from dioe.types import Array, Feeds, InputError, Plan, TensorSpec, Value


class State:
    """Declared state of one session: ``pairs`` maps each output to the input it becomes.

    Use ``feeds`` and ``keep`` with ``lock`` held. State starts as zeros; a state input that is fed
    explicitly replaces what is kept.
    """

    def __init__(self, pairs: Mapping[str, str], model: Model, plan: Plan) -> None:
        self.pairs = dict(pairs)
        self.outputs = tuple(self.pairs)
        self.lock = threading.Lock()
        self._zeros = initial_state(self.pairs, model.inputs, model.outputs, plan)
        self._values: dict[str, Value] = dict(self._zeros)

    def feeds(self, feeds: Mapping[str, Any]) -> Feeds:
        """The caller's feeds and the kept state."""
        return {**self._values, **feeds}

    def keep(self, outputs: Mapping[str, Value]) -> None:
        """Keep the state outputs of a run for the next."""
        self._values = {into: outputs[out] for out, into in self.pairs.items()}

    def reset(self) -> None:
        """Back to zeros."""
        self._values = dict(self._zeros)


def initial_state(
    pairs: Mapping[str, str],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    plan: Plan,
) -> dict[str, Array]:
    """Zeros for each state input, of the shape the plan is bound to; raises InputError."""
    known_inputs = {spec.name: spec for spec in inputs}
    known_outputs = {spec.name: spec for spec in outputs}
    zeros: dict[str, Array] = {}
    for out, into in pairs.items():
        if out not in known_outputs or into not in known_inputs:
            raise InputError(
                f"state {out!r} -> {into!r}: no such output or input",
                fix=f"outputs: {', '.join(known_outputs)}; inputs: {', '.join(known_inputs)}",
            )
        spec = known_inputs[into]
        if known_outputs[out].dtype != spec.dtype:
            raise InputError(
                f"state {out!r} is {known_outputs[out].dtype}, input {into!r} is {spec.dtype}"
            )
        shape = plan.shapes.get(into, spec.shape or ())
        sizes = [d for d in shape if isinstance(d, int)]
        if len(sizes) != len(shape) or (spec.shape is None and into not in plan.shapes):
            raise InputError(
                f"the shape of state input {into!r} is not known",
                fix="give sample_inputs that include it, so that its dimensions are bound",
            )
        zeros[into] = np.zeros(sizes, spec.dtype)
    return zeros
