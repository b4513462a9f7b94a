"""Tuning on a machine that is quiet as far as it is told, with caches and locks of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from dioe.profiling import blocks, lock, rounds
from dioe.runtime import Runtime
from dioe.tuning import trial
from dioe.types import Backend
from tests.toys.backend import registry_of
from tests.toys.work import Clock
from tests.unit.tuning.timed import Bench, MakeBench, Timed

UseBackends: TypeAlias = Callable[..., Runtime]


@pytest.fixture(autouse=True)
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise, whatever else the machine does; nobody else's lock or cache; a quick first look."""
    monkeypatch.setattr(trial, "_QUICK_S", 0.03)
    for module in (rounds, blocks, trial):
        monkeypatch.setattr(module, "others_share", lambda before, after: 0.0)
    monkeypatch.setattr(lock, "_lock_path", lambda: tmp_path / "measuring.lock")
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The process's clock, which goes on only as toys work."""
    made = Clock()
    made.patch(monkeypatch)
    return made


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


@pytest.fixture
def make_bench() -> Iterator[MakeBench]:
    """Benches for tuners of shapes to come; their runtimes are closed after the test."""
    made: list[Bench] = []

    def make(*backends: Timed, **settings: Any) -> Bench:
        made.append(Bench(*backends, **settings))
        return made[-1]

    yield make
    for bench in made:
        bench.runtime.close()
