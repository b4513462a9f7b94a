"""Tests that run in a process of their own report as all others do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import os, signal, warnings
import pytest
pytestmark = pytest.mark.own_process

@pytest.fixture(scope="module")
def process():
    yield os.getpid()

def test_elsewhere(process):
    assert process == os.getpid() != PARENT

def test_same(process):
    assert process == os.getpid()

def test_fails():
    value = 3
    assert value == 4

def test_dies():
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("n", [1, 2])
def test_after(n):
    pass

def test_skips():
    pytest.skip("not here")

@pytest.mark.xfail(strict=True)
def test_expected():
    assert False

def test_ends_badly():
    import atexit
    atexit.register(lambda: os._exit(77))
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text("from tests.own_process import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -rA\n")
    path = tmp_path / "test_module.py"
    path.write_text(f"import os\nPARENT = int(os.environ['PARENT'])\n{MODULE}")
    return path


def run(module: Path, *arguments: str) -> str:
    root = Path(__file__).parents[2]
    # The parent's id is known once it runs: a shell replaces itself by it.
    command = f"PARENT=$$ PYTHONPATH={root}:$PYTHONPATH exec {sys.executable} -m pytest"
    done = subprocess.run(
        ["sh", "-c", f'{command} "$@"', "sh", str(module), "-p", "no:cacheprovider", *arguments],
        capture_output=True,
        text=True,
        cwd=module.parent if (module.parent / "pytest.ini").exists() else module.parents[1],
        timeout=60,
        check=False,
    )
    return done.stdout


def test_results_are_passed_on(module: Path) -> None:
    said = run(module)
    assert "2 failed, 5 passed, 1 skipped, 1 xfailed, 1 error" in said
    assert "value == 4" in said
    assert "assert 3 == 4" in said
    assert "FAILED test_module.py::test_dies - the process of test_module.py" in said
    assert "ended by SIGKILL" in said
    assert "not here" in said
    assert "ERROR test_module.py::test_ends_badly" in said
    assert "ended with code 77" in said


def test_some_are_chosen(module: Path) -> None:
    assert "1 passed, 8 deselected" in run(module, "-k", "test_same")
    assert "1 failed, 2 passed" in run(module, "-x")


def test_the_next_test_may_be_in_another_folder(module: Path) -> None:
    """What pytest set up for the folder of an earlier test is taken down on the way out of it."""
    near, far = module.parent / "near", module.parent / "far"
    for folder in (near, far):
        folder.mkdir()
        (folder / "__init__.py").touch()
    (near / "test_plain.py").write_text("def test_plain():\n    pass\n")
    own = "import pytest\npytestmark = pytest.mark.own_process\ndef test_own():\n    pass\n"
    (near / "test_own.py").write_text(own)
    (far / "test_far.py").write_text("def test_far():\n    pass\n")
    said = run(near / "test_plain.py", str(near / "test_own.py"), str(far / "test_far.py"))
    assert "3 passed" in said, said
