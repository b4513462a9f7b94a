"""What commands show while they work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dioe.cli import terminal
from dioe.cli.terminal import print_targets, short
from dioe.types import TargetReport


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 100 columns in the place of stderr."""
    stream = io.StringIO()

    def made(**_: object) -> Console:
        return Console(file=stream, force_terminal=True, width=100, color_system=None)

    monkeypatch.setattr(terminal, "Console", made)
    return stream


def test_a_bar_tells_what_is_done_and_left(stderr: io.StringIO) -> None:
    with terminal.progress_bar("profiling") as show:
        show("whole models", 0, 0)
        show("conv [0]\x1b on cpu/a", 3, 10)
    shown = stderr.getvalue()
    assert r"profiling: conv [0]\x1b on cpu/a" in shown
    assert "7 left" in shown


def test_a_status_shows_names_as_they_are(stderr: io.StringIO) -> None:
    with terminal.progress("planning") as say:
        say("op [/0]\x1b")
    assert r"planning: op [/0]\x1b" in stderr.getvalue()


def test_a_status_stays_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(
        terminal,
        "Console",
        lambda **_: Console(file=stream, force_terminal=True, width=40, color_system=None),
    )
    with terminal.progress("planning") as say:
        say("a name " * 20)
    shown = stream.getvalue()
    assert "planning: a name a name" in shown
    assert "a nam…" in shown
    assert "\x1b[1A" not in shown.rpartition("planning")[0]  # it never goes up a line


def test_the_clock_of_a_bar_isnt_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(
        terminal,
        "Console",
        lambda **_: Console(file=stream, force_terminal=True, width=80, color_system=None),
    )
    with terminal.progress_bar("profiling") as show:
        show("recurrent block55 on cpu/onnxruntime/fp32 on 1 thread", 3, 230)
    assert "227 left 0:00:00" in " ".join(stream.getvalue().split())


def test_no_bar_where_it_would_be_in_the_way(
    stderr: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal.progress_bar("profiling", quiet=True) as show:
        show("one", 0, 2)
    assert stderr.getvalue() == ""
    monkeypatch.setattr(terminal, "Console", Console)  # pytest's stderr is no terminal
    with terminal.progress_bar("profiling") as show:
        show("one", 0, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert terminal.size(size) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.000"), (0.0004, "<0.001"), (0.0005, "0.001"), (12.345, "12.35")],
)
def test_milliseconds(value: float | None, text: str) -> None:
    assert terminal.ms(value) == text


A, B = "cpu/openvino/bf16+fp32", "gpu:0/onnxruntime.webgpu/fp32"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" -> ".join([A, B] * 17), f"34 stages: {A}, {B}"),
        (
            f"note: {' -> '.join([B, A, A, B])} (error 1) was",
            f"note: 4 stages: {B}, {A} (error 1) was",
        ),
        (" -> ".join([f"{A} on 1 thread"] * 5), f"5 stages: {A} on 1 thread"),
        (" -> ".join([A, B, A]), " -> ".join([A, B, A])),
        ("det -> crop -> cls -> rec -> text", "det -> crop -> cls -> rec -> text"),
    ],
)
def test_plans_of_many_stages_have_short_names(text: str, shown: str) -> None:
    assert short(text) == shown


@pytest.mark.parametrize("columns", [80, 200])
def test_they_have_few_lines_in_the_table(columns: int) -> None:
    many = " -> ".join([A, B] * 17)
    report = TargetReport(many, "slow", reason=f"{many} is no better", p50_ms=2.0, runs=9)
    stream = io.StringIO()
    print_targets(Console(file=stream, width=columns), [report], chosen=many)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) < 12
    assert "> 34 stages:" in stream.getvalue()
