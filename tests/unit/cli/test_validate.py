"""``dioe validate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dioe.types import ConfigError
from tests.unit.cli.conftest import Dioe

ROOT = Path(__file__).parents[3]

DEVICE = """\
format: dioe-device
version: 1
id: mine
name: My GPU
kind: gpu
peaks:
- {precision: fp32, value: 20 TFLOPS, kind: vendor, source: its datasheet}
- {precision: fp16, value: 10 TFLOPS, kind: vendor, source: its datasheet}
"""


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(DEVICE)
    return path


def test_a_warning_fails_only_when_strict(dioe: Dioe, device: Path) -> None:
    shown = dioe("validate", str(device))
    assert shown.code == 0
    assert f"{device}:8:21: warning" in shown.out.replace("\n", "")
    assert "fp16 peak, 10 TFLOPS, is below that of fp32" in " ".join(shown.out.split())
    assert dioe("validate", str(device), "--strict").code == ConfigError.exit_code


def test_all_errors_of_several_files(dioe: Dioe, device: Path, tmp_path: Path) -> None:
    other = tmp_path / "pool.yaml"
    other.write_text("devices:\n- {id: cpu, capasity: 1}\n- {id: x y}\nlinks: 3\n")
    shown = dioe("validate", str(device), str(other), "nothing-there")
    assert shown.code == ConfigError.exit_code
    text = shown.out.replace("\n", " ")
    for place in (f"{other}:2:13: error", f"{other}:3:4: error", f"{other}:4:1: error"):
        assert place in text
    assert "did you mean 'capacity'?" in text
    assert "3 files: 1 with warnings, 2 with errors" in text
    assert shown.err == ""


def test_json(dioe: Dioe, device: Path) -> None:
    found = dioe("validate", str(device), "--json").json
    assert found["ok"]
    (file,) = found["files"]
    assert (file["kind"], file["state"]) == ("device", "warnings")
    (finding,) = file["findings"]
    assert (finding["file"], finding["line"], finding["column"]) == (str(device), 8, 21)
    assert (finding["rule"], finding["severity"]) == ("precision-order", "warning")


def test_names_of_the_catalogue(dioe: Dioe) -> None:
    shown = dioe("validate", "example-host")
    assert shown.code == 0
    assert "OK" in shown.out
    shown = dioe("validate", "exampel-host")
    assert shown.code == ConfigError.exit_code
    assert "did you mean 'example-host'?" in shown.out


def test_everything_that_is_shipped(dioe: Dioe) -> None:
    shown = dioe("validate", "--catalogue", "--strict", "--json")
    found = [f for file in json.loads(shown.out)["files"] for f in file["findings"]]
    assert found == []
    assert shown.code == 0


def test_nothing_named(dioe: Dioe) -> None:
    shown = dioe("validate")
    assert shown.code == 11
    assert "--catalogue" in shown.err


@pytest.mark.parametrize("width", [80, 200])
def test_what_a_terminal_would_obey_is_escaped(
    dioe: Dioe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    path = tmp_path / "\x1b[31mred.yaml"
    path.write_text(DEVICE.replace("its datasheet", '"\\e]0;title\\a"', 1) + '"\\e[2J": 1\n')
    shown = dioe("validate", str(path))
    assert shown.code == ConfigError.exit_code
    assert "\x1b" not in shown.out
    assert r"\x1b[2J" in shown.out
    assert max(map(len, shown.out.splitlines())) <= max(width, len(str(path)) + 30)


def test_devices_of_the_null_backend_are_named_and_left_to_it(dioe: Dioe) -> None:
    shown = dioe("validate", str(ROOT / "docs/examples/null_devices.yaml"))
    assert shown.code == 0
    assert "UNCHECKED" in shown.out
