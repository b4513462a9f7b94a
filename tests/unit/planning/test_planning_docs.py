"""The examples of docs/planning.md run, and print what stands below them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dioe.planning import SCHEDULE_POLICIES, SCHEDULERS
from dioe.planning.problem_file import ProblemFile

PAGE = Path(__file__).parents[3] / "docs" / "planning.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    ran = 0
    for language, body in re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL):
        if language == "json":
            (tmp_path / "problem.json").write_text(body, encoding="utf-8")
        elif language == "python":
            exec(compile(body, str(PAGE), "exec"), namespace)
            ran += 1
        elif language == "text":
            assert capsys.readouterr().out == body
    assert ran == 4


def test_names() -> None:
    """Every policy, scheduler and key of a problem file stands on the page."""
    for name in (*SCHEDULE_POLICIES, *SCHEDULERS, *ProblemFile.__dataclass_fields__):
        assert f"`{name}`" in TEXT, name
