"""How the suite's plugin holds a run against the list of known failures, and what it counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = """
import os
from dioe_reference.backend import ReferenceBackend
from dioe.types import DeviceInfo, KnownAs


class Toy(ReferenceBackend):
    name = "toy"
    simulated = "TOY_SIMULATED" in os.environ

    @property
    def version(self):
        return os.environ.get("TOY_VERSION", "1.0")

    def probe(self):
        known_as = KnownAs.MODELLED if self.simulated else KnownAs.HARDWARE
        return [DeviceInfo("cpu", "cpu", known_as=known_as)]


def backends():
    return [Toy()]
"""
DECLARATIONS = "dioe.testing.conformance.test_declarations"
SAYS_WHO = "declarations::test_a_backend_says_who_it_is"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of distributions with one plugin, ``toy``."""
    (tmp_path / "dioe_toy").mkdir()
    (tmp_path / "dioe_toy/__init__.py").write_text(TOY)
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dioe.backends]\ntoy = dioe_toy:backends\n")
    return tmp_path


def pytest_run(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=site,
        env=os.environ | {"PYTHONPATH": str(site), "DIOE_PLUGIN_TRIAL": "never"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def declarations(site: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Two tests of the section ``declarations`` of toy: exit code and output."""
    command = ("--pyargs", DECLARATIONS, "--backend", "toy", "-k", "says_who or sane", *arguments)
    done = pytest_run(site, *command, **environment)
    return done.returncode, done.stdout + done.stderr


def listed(site: Path, *lines: str) -> None:
    (site / "dioe_toy/known_failures.txt").write_text("\n".join(("# a comment", "", *lines)))


def test_a_failure_that_is_not_listed_fails(site: Path) -> None:
    code, output = declarations(site, TOY_VERSION="")
    assert code == 1
    assert "declarations                   1               0               1" in output


def test_a_failure_that_is_listed_is_known(site: Path) -> None:
    listed(site, f"{SAYS_WHO}  has no version")
    code, output = declarations(site, TOY_VERSION="")
    assert code == 0, output
    assert "declarations                   1               0               0               1" in (
        output
    )
    assert "1 known failures listed" in output


def test_a_listed_test_that_passes_fails(site: Path) -> None:
    listed(site, f"{SAYS_WHO}  has no version")
    code, output = declarations(site)
    assert code == 1
    assert f"{SAYS_WHO} passes, but" in output
    assert "take it off the list" in output


@pytest.mark.parametrize(
    "test",
    [
        "declarations::test_of_last_year",
        "elsewhere::test_a_backend_says_who_it_is",
    ],
)
def test_a_listed_test_that_is_none_fails(site: Path, test: str) -> None:
    listed(site, f"{test}  gone")
    code, output = declarations(site)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"there is no test {test}" in output


def test_names_that_are_near_are_told(site: Path) -> None:
    listed(site, "declarations::test_a_backend_says_what_it_is  has no version")
    code, output = declarations(site)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"did you mean {SAYS_WHO}?" in output


def test_a_line_without_a_reason_is_a_usage_error(site: Path) -> None:
    listed(site, SAYS_WHO)
    code, output = declarations(site)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "is no known failure" in output


def test_what_crashes_is_not_run(site: Path) -> None:
    listed(site, f"{SAYS_WHO}  crashes: the process ends")
    code, output = declarations(site)
    assert code == 0, output
    assert "1 known failures" in output


def test_a_list_of_ones_own(site: Path) -> None:
    (site / "mine.txt").write_text(f"{SAYS_WHO}  has no version\n")
    code, output = declarations(site, "--known-failures", "mine.txt", TOY_VERSION="")
    assert code == 0, output
    code, output = declarations(site, "--known-failures", "missing.txt")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "missing.txt" in output


def test_a_simulated_backend_is_judged_by_no_values(site: Path) -> None:
    sections = [f"dioe.testing.conformance.test_{name}" for name in ("requests", "errors")]
    command = ("--pyargs", *sections, "--backend", "toy", "--collect-only", "-q")
    done = pytest_run(site, *command, TOY_SIMULATED="1")
    assert done.returncode == 0, done.stdout
    assert "deselected" in done.stdout
    assert "test_bound_arrays_are_used_in_place" not in done.stdout
    assert "test_wrong_inputs" in done.stdout


def test_what_is_not_covered_says_why(site: Path) -> None:
    suite = "dioe.testing.conformance.test_options"
    done = pytest_run(site, "--pyargs", suite, "--backend", "toy", "-v", "-k", "compiled_form")
    assert done.returncode == 0, done.stdout
    reason = "test_the_compiled_form_is_the_same_executable: has no compiled form"
    assert f"not covered: options::{reason}" in done.stdout
    assert "options                        0               1               0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--backend NAME is missing"),
        (("--backend", "nobody"), "no installed plugin provides a backend 'nobody'"),
        (("--backend", "toy", "--device", "gpu:7"), "no device gpu:7"),
        (("--backend", "toy", "--precision", "fp33"), "fp33"),
        (("--backend", "toy", "--precision", "bf16"), "'toy' doesn't compute in bf16"),
    ],
)
def test_wrong_options(site: Path, arguments: tuple[str, ...], message: str) -> None:
    done = pytest_run(site, "--pyargs", DECLARATIONS, *arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stdout + done.stderr


def test_other_runs_know_nothing_of_it(site: Path) -> None:
    """The options are there where the suite is asked for only: others may have the same names."""
    done = pytest_run(site, "--help")
    assert "--all-nodes" not in done.stdout
    done = pytest_run(site, "--pyargs", DECLARATIONS, "--help")
    assert "--all-nodes" in done.stdout


def test_a_report_for_programs(site: Path, tmp_path: Path) -> None:
    listed(site, "declarations::test_devices_are_sane  is not")
    file = tmp_path / "report.json"
    code, output = declarations(site, "--report", str(file), TOY_VERSION="")
    assert code == 1, output
    found = json.loads(file.read_text())
    assert {key: found[key] for key in ("backend", "version", "device", "precisions")} == {
        "backend": "toy",
        "version": "",
        "device": "cpu",
        "precisions": ["fp32"],
    }
    counts = {"covered": 0, "not_covered": 0, "failed": 2, "known_failures": 0}
    assert found["sections"] == {"declarations": counts, "all": counts}
    first, second = found["failures"]
    assert first["test"] == SAYS_WHO
    assert first["reason"].startswith("AssertionError: assert ''")
    assert "take it off the list" in second["reason"]
