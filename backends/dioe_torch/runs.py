"""How the runs of a request are handed to the device: each op by op, or otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import torch

Run: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
"""Takes the inputs of a program, gives its outputs; see ``Linked.run``."""


class Runner(Protocol):
    """The runs of one request, which may keep tensors of its own from run to run."""

    note: str | None
    """Empty if a captured graph is replayed, else why not; None where it isn't known yet."""

    def place_of(self, index: int, like: torch.Tensor) -> torch.Tensor | None:
        """The tensor on the device that input ``index`` is best copied into; None if a new one."""
        ...

    def __call__(self, inputs: Sequence[Any]) -> Sequence[Any]: ...


class Direct:
    """Every run handed over op by op."""

    def __init__(
        self,
        run: Run,
        note: str = "this backend captures no graphs",
    ) -> None:
        self._run = run
        self.note: str | None = note

    def place_of(self, index: int, like: torch.Tensor) -> torch.Tensor | None:
        """Always None."""
        return None

    def __call__(self, inputs: Sequence[Any]) -> Sequence[Any]:
        return self._run(inputs)
