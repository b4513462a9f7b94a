"""The fixtures of the suite, and its tests over precisions and cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from dioe.testing import nodes
from dioe.testing.cases import cases
from dioe.testing.plugin import SELECTION
from dioe.testing.subject import Subject
from dioe.types import Precision

if TYPE_CHECKING:
    from dioe.testing.plugin import Selection


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """The backend under test; everything opened through it is closed after the test."""
    selection = request.config.stash[SELECTION]
    with ExitStack() as stack:
        yield Subject(selection.backend, selection.device, selection.entry_point, stack)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests the precisions, node cases and cases they ask for; remember which there are."""
    selection = metafunc.config.stash[SELECTION]
    fixtures = metafunc.fixturenames
    if "node" in fixtures and selection.backend.simulated:
        _parametrize(metafunc, ("precision", "node"), [], [])  # deselected; onnx takes seconds
    elif "node" in fixtures:
        everything = [(p, name) for name in _every_node() for p in _judged(selection, name)]
        subset = set(nodes.SUBSET)
        chosen = [
            (p, name)
            for p, name in everything
            if p in selection.chosen and (selection.all_nodes or name in subset)
        ]
        _parametrize(metafunc, ("precision", "node"), everything, chosen)
    elif "case" in fixtures and "precision" in fixtures:
        pairs = [
            (p, case.name)
            for case in cases()
            for p in selection.precisions
            if p is Precision.FP32 or case.continuous
        ]
        _parametrize(
            metafunc, ("precision", "case"), pairs, [p for p in pairs if p[0] in selection.chosen]
        )
    elif "lower" in fixtures:
        lower: list[tuple[str]] = [(p,) for p in selection.precisions if p is not Precision.FP32]
        lower = lower or [("none",)]
        chosen_lower = [p for p in lower if p[0] in (*selection.chosen, "none")]
        _parametrize(metafunc, ("lower",), lower, chosen_lower)
    elif "case" in fixtures:
        every = [(case.name,) for case in cases()]
        _parametrize(metafunc, ("case",), every, every)


def _every_node() -> list[str]:
    """All node cases of this onnx, and those of the subset that it lacks."""
    return sorted({*nodes.names(), *nodes.SUBSET})


def _judged(selection: Selection, name: str) -> list[Precision]:
    """The precisions that a node case is run in."""
    family = nodes.FAMILIES.get(nodes.SUBSET.get(name, ""))
    lower = family is not None and family.lower
    floats = (Precision.FP16, Precision.BF16) if lower else ()
    return [p for p in selection.precisions if p is Precision.FP32 or p in floats]


def _parametrize(
    metafunc: pytest.Metafunc,
    names: tuple[str, ...],
    possible: Sequence[tuple[str, ...]],
    chosen: Sequence[tuple[str, ...]],
) -> None:
    selection = metafunc.config.stash[SELECTION]
    kind = metafunc.module.__name__.rpartition(".")[2].removeprefix("test_")
    test = f"{kind}::{metafunc.function.__name__}"
    selection.possible.update(f"{test}[{'-'.join(each)}]" for each in possible)
    metafunc.parametrize(names, chosen, ids=["-".join(each) for each in chosen])
