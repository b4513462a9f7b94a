"""Tables in a terminal: legible when narrow, and deaf to what names say."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dioe_inspect import inspect_model, render_text
from tests.unit.inspect.models import HOSTILE, OPENVINO, ORT, answers, graph_of, plan_of, small


def _render(width: int, verbose: bool = False, name: str = "first") -> str:
    graph = graph_of(small(name))
    costs = {ORT: {"pool": 0.5}}
    inspection = inspect_model(graph, answers(graph), costs, plan_of(graph))
    stream = io.StringIO()
    render_text(inspection, Console(file=stream, width=width, color_system=None), verbose)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("verbose", [False, True])
def test_legible(width: int, verbose: bool) -> None:
    text = _render(width, verbose)
    assert all(len(line) <= width for line in text.splitlines())
    for word in (ORT, OPENVINO, "GlobalAveragePool", "float32[1, 4, 8, 8]", "5/6", "0/6", "maker"):
        assert word in text
    joined = " ".join(text.split())
    assert "no pooling here" in joined
    assert "all: nothing is quantised" in joined
    assert "1.250 ms (measured)" in text
    assert "0.500 ms" in text
    assert ("relu1" in text) == verbose


def test_tables_that_are_cut_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dioe_inspect.text._ROWS", 1)
    assert "more (-v shows all)\n\nBlocks (equal" in _render(80)


def test_names_are_text_only() -> None:
    text = _render(200, verbose=True, name=HOSTILE)
    assert "\x1b" not in text
    assert "[red]\\x1b[2J" in "".join(text.split())


def test_without_shapes_and_targets() -> None:
    stream = io.StringIO()
    render_text(inspect_model(graph_of(batch=None), {}), Console(file=stream, width=80))
    text = stream.getvalue()
    assert "--shape" in text
    assert "Targets" not in text
    assert "float32[n, 4, 8, 8]" in text
