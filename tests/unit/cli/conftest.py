"""The command in this process: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest

from dioe.cli.app import run
from dioe.profiling import lock, rounds
from dioe.runtime import Runtime
from dioe.types import Array, Backend
from tests.toys import models
from tests.toys.backend import registry_of

ORT = ("--devices", "cpu/onnxruntime")
QUICK = ("--tuning-budget", "0")


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as the one JSON object that it holds."""
        return json.loads(self.out)


Dioe: TypeAlias = Callable[..., Outcome]
UseBackends: TypeAlias = Callable[..., Runtime]


@pytest.fixture
def dioe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Dioe]:
    """Run a command; numbers and paths may be among the arguments."""
    monkeypatch.setattr(rounds, "others_share", lambda before, after: 0.0)
    monkeypatch.setattr(lock, "_lock_path", lambda: tmp_path / "measuring.lock")
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "dioe-cache"))
    root, ours = logging.getLogger(), logging.getLogger("dioe")
    handlers, level = list(root.handlers), ours.level

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        root.handlers.clear()  # pytest's own, which the command would take for its user's
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    yield call
    root.handlers[:] = handlers
    ours.setLevel(level)


@pytest.fixture
def use_backends(monkeypatch: pytest.MonkeyPatch) -> Iterator[UseBackends]:
    """Make the process's runtime one with these backends, and some of the installed ones."""
    made: list[Runtime] = []

    def use(*backends: Backend, installed: Sequence[str] = ("onnxruntime",)) -> Runtime:
        runtime = Runtime(registry_of(*backends, installed=installed))
        monkeypatch.setattr(Runtime, "_current", runtime)
        made.append(runtime)
        return runtime

    yield use
    for runtime in made:
        runtime.close()


def rows(n: int = 4, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """``tests.toys.models.dense`` as a file."""
    path = tmp_path / "model.onnx"
    onnx.save(models.dense(), path)
    return path


@pytest.fixture
def x(tmp_path: Path) -> Path:
    """An input for ``model`` as a file."""
    path = tmp_path / "x.npy"
    np.save(path, rows())
    return path


@pytest.fixture
def plan(dioe: Dioe, model: Path, tmp_path: Path) -> Path:
    """A plan for ``model`` that nobody measured."""
    path = tmp_path / "made-before.json"
    assert dioe("plan", model, "-o", path, *QUICK).code == 0
    return path


def is_told(outcome: Outcome, code: int, *says: object) -> None:
    """Assert that an error is a person's: its code, all that it names, a fix, no traceback."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("dioe: error: ")
    assert "Traceback" not in outcome.err
    for text in says:
        assert str(text) in outcome.err
    assert "\n  " in outcome.err, "no fix is given"


def files_in(folder: Path) -> set[str]:
    """Every file below a folder, hidden ones too, by its relative path."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
