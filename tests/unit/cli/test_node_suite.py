"""``dioe node-suite``."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dioe.cli.node_suite import show_report
from dioe.testing.node_suite import Report
from tests.unit.cli.conftest import Dioe, is_told


def test_json_is_the_report(dioe: Dioe) -> None:
    arguments = ("--backend", "reference", "--case", "test_ab*", "--case", "test_bernoulli")
    outcome = dioe("node-suite", *arguments, "--json", "--jobs", 1)
    assert outcome.code == 0
    assert outcome.err == ""
    all_passed = {"passed": 2, "failed": 0, "total": 2}
    assert outcome.json == {
        "all": all_passed,
        "without_reference": {"passed": 0, "failed": 2, "total": 2},
        "per_backend": {"reference": all_passed},
        "failures": [],
    }


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--backend", "nonsense"), 12, "there is none"),
        (("--backend", "null"), 12, "simulated"),
        (("--device", "gpu:77"), 12, "gpu:77"),
        (("--backend", "reference", "--case", "abs_*"), 11, "test_add_bcast"),
        (("--jobs", "0"), 2, "--jobs"),
    ],
)
def test_what_cannot_be_run_is_told(
    dioe: Dioe, arguments: tuple[str, ...], code: int, says: str
) -> None:
    outcome = dioe("node-suite", *arguments)
    if code == 2:
        assert outcome.code == code
        assert says in outcome.err
    else:
        is_told(outcome, code, says)


REPORT = Report(
    ("test_abs", "test_add", "test_sub"),
    {
        "reference": {"test_add": "ValueError: [red]no[/]"},
        "one": {"test_abs": "refused 1 of 1 ops: y: " + "why " * 40, "test_add": "took too long"},
    },
)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_text(width: int) -> None:
    shown = text(REPORT, width)
    assert all(len(line) <= width for line in shown.splitlines())
    table, _, rest = shown.partition("Cases that no backend passes")
    rows = [line.split() for line in table.splitlines()]
    assert ["reference", "2", "1", "3"] in rows
    assert ["one", "1", "2", "3"] in rows
    assert ["all", "together", "2", "1", "3"] in rows
    assert ["all", "but", "reference", "1", "2", "3"] in rows
    assert "test_add\n  reference: ValueError: [red]no[/]\n  one: took too long\n" in rest
    assert "test_abs" not in rest
    assert "1 failures of cases that another backend passes" in " ".join(rest.split())


def test_text_with_everything() -> None:
    shown = text(REPORT, 80, verbose=True)
    _, _, others = shown.partition("Failures of cases that another backend passes")
    assert "test_abs\n  one: refused 1 of 1 ops: y: why" in others
    assert "-v" not in shown
    assert "no backend passes" not in text(Report(("test_abs",), {"one": {}}), 80)


def text(report: Report, width: int, *, verbose: bool = False) -> str:
    out = io.StringIO()
    show_report(report, Console(file=out, width=width, highlight=False), verbose=verbose)
    return out.getvalue()
