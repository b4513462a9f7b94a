"""The inspection page in a real browser: its script runs, draws every block, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dioe_inspect import inspect_model, render_html
from tests.unit.inspect.models import HOSTILE, answers, graph_of, small

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("name", ["first", HOSTILE])
def test_the_graph_is_drawn(name: str, tmp_path: Path) -> None:
    graph = graph_of(small(name))
    inspection = inspect_model(graph, answers(graph))
    page = tmp_path / "page.html"
    page.write_text(render_html(inspection, graph), encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, page.as_uri()], check=True, capture_output=True, text=True, timeout=120
    )
    # the page as it is after its script ran: the file itself holds no drawing
    assert "<rect" not in page.read_text(encoding="utf-8")
    assert len(re.findall("<rect", done.stdout)) >= len(inspection.blocks)
    assert "<img" not in done.stdout
