"""``dioe plan`` on devices that aren't here, and ``--compare``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import pytest

from tests.unit.cli.conftest import Dioe, UseBackends, files_in, is_told
from tests.unit.tuning.pools import tower

POOL = """
format: dioe-pool
version: 1
name: a workstation to be
devices:
- id: cpu
  device: epyc-9654
  memory_bytes: 8589934592
- id: gpu:0
  device: l4
links:
- source: cpu
  destination: gpu:0
  both_ways: true
  bandwidth: {value: 15.75 GB/s, kind: derived, source: a standard}
"""
HERE = """
format: dioe-pool
version: 1
devices:
- id: cpu
  known_as: hardware
  capacity: 2.0
"""


@pytest.fixture
def tall(tmp_path: Path) -> Path:
    path = tmp_path / "tall.onnx"
    onnx.save(tower(4), path)
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "pool.yaml"
    path.write_text(POOL)
    return path


@pytest.fixture(autouse=True)
def quiet(use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch) -> None:
    use_backends()
    monkeypatch.setenv("COLUMNS", "120")


def flat(text: str) -> str:
    return " ".join(text.split())


def test_what_isnt_here_is_modelled_and_the_first_line_says_so(
    dioe: Dioe, tall: Path, pool: Path
) -> None:
    shown = dioe("plan", tall, "--hardware", pool, "--shape", "x=256,512")
    assert (shown.code, shown.err) == (0, "")
    text = flat(shown.out)
    assert text.startswith("modelled on a workstation to be: computed from figures")
    assert "nothing was run" in text
    assert "since cpu and gpu:0 are not here" in text
    assert "gpu:0: no backend finds it" in text
    assert re.search(r"latency \S+ ms, \S+ requests/s, \S+ mJ a request \(modelled\)", text)
    assert "for x 256×512" in text
    assert "gpu:0/*/fp32" in text
    assert "72 W" in text
    assert "24.0 GiB" in text
    assert "dispatch of 10 µs a stage assumed" in text


def test_what_is_here_is_measured_as_ever(dioe: Dioe, tall: Path, tmp_path: Path) -> None:
    path = tmp_path / "here.yaml"
    path.write_text(HERE)
    shown = dioe("plan", tall, "--hardware", path, "--tuning-budget", "0")
    assert shown.code == 0
    assert "modelled" not in shown.out
    only = dioe("plan", tall, "--hardware", path, "--tuning-budget", "0", "--policy", "throughput")
    is_told(only, 11, "--policy throughput", "--modelled")
    is_told(dioe("plan", tall, "--latency", "5"), 11, "--latency", "--modelled")
    is_told(dioe("plan", tall, "--timeline", "t.svg"), 11, "--timeline", "--modelled")


def test_one_may_ask_for_figures_alone(dioe: Dioe, tall: Path, tmp_path: Path) -> None:
    path = tmp_path / "here.yaml"
    path.write_text(HERE + "  device: epyc-9654\n")
    shown = dioe("plan", tall, "--hardware", path, "--modelled")
    assert shown.code == 0
    assert shown.out.startswith("modelled on ")
    assert "not here" not in shown.out


def test_options_of_measuring_are_refused(dioe: Dioe, tall: Path, pool: Path) -> None:
    call = ("plan", tall, "--hardware", pool)
    is_told(dioe(*call, "--tuning-budget", "3"), 11, "--tuning-budget", "nothing is run")
    is_told(dioe(*call, "--max-relative-l2", "0.1"), 11, "--max-relative-l2")


@pytest.mark.parametrize("policy", ["latency", "throughput", "efficiency", "memory"])
def test_policies(dioe: Dioe, tall: Path, pool: Path, policy: str) -> None:
    found = dioe("plan", tall, "--hardware", pool, "--policy", policy, "--json").json
    assert (found["policy"], found["known_as"]) == (policy, "modelled")


def test_limits_hold_and_what_fits_nowhere_says_which_by_how_much(
    dioe: Dioe, tall: Path, pool: Path
) -> None:
    call = ("plan", tall, "--hardware", pool, "--json")
    small = dioe(*call, "--memory-limit", "cpu=3MiB", "--memory-limit", "gpu:0=3MiB").json
    assert all(d["peak_bytes"] <= 3 * 2**20 for d in small["devices"])
    assert {s["target"].partition("/")[0] for s in small["stages"]} == {"cpu", "gpu:0"}
    tiny = dioe(*call, "--memory-limit", "cpu=1536KiB", "--memory-limit", "gpu:0=1536KiB")
    is_told(tiny, 12, "memory", "allowed", "too much")
    is_told(dioe(*call, "--latency", "0.0001"), 12, "latency", "too much")
    is_told(dioe(*call, "--power", "5W"), 12, "5 W")
    capped = dioe(*call, "--power", "100W").json
    assert {s["target"].partition("/")[0] for s in capped["stages"]} == {"gpu:0"}


def test_a_precision_that_nothing_has_hints_at_auto(dioe: Dioe, tall: Path) -> None:
    is_told(dioe("plan", tall, "--hardware", "jetson-agx-orin"), 12, "--precision auto")
    shown = dioe("plan", tall, "--hardware", "jetson-agx-orin", "--precision", "auto")
    assert shown.code == 0
    assert "accuracy can't be checked" in flat(shown.out)
    assert "cpu isn't used: " in flat(shown.out)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--hardware", "nowhere"), 19, "no such file"),
        (("--policy", "speed"), 11, "policy 'speed' is unknown"),
        (("--precision", "fp7"), 11, "precision 'fp7' is unknown"),
        (("--devices", "gpu:9"), 11, "gpu:9"),
        (("--memory-limit", "gpu:9=1GiB"), 11, "gpu:9"),
        (("--latency", "-2"), 11, "-2"),
        (("--pin", "nothing=cpu"), 11, "matches no op"),
        (("--timeline", "t.png"), 11, "t.png"),
        (("--timeline", "a.svg", "--timeline", "a.svg"), 11, "named twice"),
    ],
)
def test_what_is_wrong_is_told(
    dioe: Dioe, tall: Path, pool: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    given = arguments if "--hardware" in arguments else ("--hardware", pool, *arguments)
    is_told(dioe("plan", tall, *given), code, says)


# --- files -------------------------------------------------------------------------------------


def test_files_are_written_and_no_command_runs_them(
    dioe: Dioe, tall: Path, pool: Path, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("p.json", "t.svg", "t.json")]
    call = ("plan", tall, "--hardware", pool, "-o", files[0])
    shown = dioe(*call, "--timeline", files[1], "--timeline", files[2])
    assert shown.code == 0
    for file in files:
        assert f"written to {file}" in shown.out.replace("\n", "")
    assert json.loads(files[0].read_text())["format"] == "dioe-modelled-plan"
    assert files[1].read_text().startswith("<svg ")
    assert json.loads(files[2].read_text())["traceEvents"]
    is_told(dioe("plan", "--from", files[0]), 14, "a modelled plan")
    is_told(dioe("run", tall, "--plan", files[0]), 14, "a modelled plan")
    assert dioe(*call, "--timeline", files[1], "--timeline", files[2]).code == 0, "are replaced"


def test_other_files_arent_replaced(dioe: Dioe, tall: Path, pool: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.svg"
    mine.write_text("mine")
    trace = tmp_path / "mine.json"
    trace.write_text('{"format": "dioe-plan"}')
    before = files_in(tmp_path)
    call = ("plan", tall, "--hardware", pool)
    is_told(dioe(*call, "--timeline", mine), 11, "isn't an SVG picture")
    is_told(dioe(*call, "--timeline", trace), 11, "isn't a trace")
    is_told(dioe(*call, "-o", trace), 11, "isn't a modelled plan")
    assert files_in(tmp_path) == before


def test_explain_tells_what_decided(dioe: Dioe, tall: Path, pool: Path, tmp_path: Path) -> None:
    output = tmp_path / "p.json"
    call = ("plan", tall, "--hardware", pool, "--shape", "x=256,512")
    assert "runner-up" not in dioe(*call).out
    shown = dioe(*call, "--explain", "-o", output)
    text = flat(shown.out)
    assert "on cpu/*/fp32 (runner-up) the plan takes +" in text
    (reason, *_) = json.loads(output.read_text())["reasons"]
    assert (reason["block"], reason["runner_up"]) == ("block0", "cpu/*/fp32")
    assert reason["reason"]


# --- comparing ---------------------------------------------------------------------------------


def test_pools_are_compared_and_one_that_fails_has_a_row(
    dioe: Dioe, tall: Path, pool: Path
) -> None:
    call = ("plan", tall, "--compare", pool, "server-a100", "nowhere", "jetson-agx-orin")
    shown = dioe(*call)
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    order = [next(i for i, s in enumerate(lines) if name in s)
             for name in ("server-a100", "nowhere")]  # fmt: skip
    assert order == sorted(order)
    assert "nothing was run" in lines[0]
    assert "nowhere: no such file" in flat(shown.out)
    assert "--precision auto" in flat(shown.out)
    found = dioe(*call, "--json", "--policy", "throughput", "--precision", "auto").json
    assert (found["known_as"], found["policy"]) == ("modelled", "throughput")
    assert [row["fits"] for row in found["pools"]] == [True, True, True, False]
    rates = [row["plan"]["throughput_per_s"] for row in found["pools"][:3]]
    assert rates == sorted(rates, reverse=True)
    assert len(dioe("plan", tall, "--compare", pool, pool, "--json").json["pools"]) == 1


def test_comparing_needs_pools_and_nothing_else_takes_them(
    dioe: Dioe, tall: Path, pool: Path
) -> None:
    is_told(dioe("plan", tall, "--compare"), 11, "nothing to compare")
    assert dioe("plan", tall, pool).code == 2
    for option in (("--hardware", pool), ("--timeline", "t.svg"), ("-o", "p.json"), ("--explain",)):
        is_told(dioe("plan", tall, "--compare", pool, *option), 11, "--compare makes several")
    none = dioe("plan", tall, "--compare", "nowhere", "nor-there")
    assert none.code == 12
    assert "nowhere: no such file" in flat(none.out)
    assert "Traceback" not in none.err
