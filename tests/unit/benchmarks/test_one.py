"""One case of the benchmarks in a process of its own: what it is asked, and what it gives back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dioe
from benchmarks import one
from benchmarks.one import Case, bench_case
from dioe.graph import Model
from dioe.types import BackendError, InputError
from tests.toys import models
from tests.toys.plans import plan_for

PLAN = plan_for(Model.load(models.relu()), "cpu/a/fp32")


class Measured:
    """Stands in for ``dioe.bench``: what it was asked, and what was in its cache directory."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.error: Exception | None = None

    def __call__(self, model: object, **settings: Any) -> object:
        self.asked = {"model": model, **settings}
        self.cache_dir = Path(settings["cache_dir"])
        self.cached = sorted(path.name for path in self.cache_dir.iterdir())
        if self.error is not None:
            raise self.error
        return SimpleNamespace(chosen=PLAN, to_dict=lambda: {"plan": {"p50_ms": 0.25}})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    rng = np.random.default_rng(2)
    feeds = [{"x": rng.standard_normal((n, 4), np.float32)} for n in (1, 2, 1)]
    model = SimpleNamespace(name="toy", path=lambda: "toy.onnx", feeds=lambda: feeds)
    monkeypatch.setattr(one, "MODELS", {"toy": model})
    made = Measured()
    monkeypatch.setattr(dioe, "bench", made)
    return made


def test_without_a_folder_nothing_is_known(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one.main(["toy", "--precision", "auto", "--time", "2"]) == 0
    assert measured.cached == []
    assert not measured.cache_dir.exists()
    asked = measured.asked
    assert (asked["model"], asked["precision"], asked["time_s"]) == ("toy.onnx", "auto", 2.0)
    assert asked["max_relative_l2"] is None
    assert [feed["x"].shape for feed in asked["sample_inputs"]] == [(1, 4), (1, 4)]
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("chosen") == json.loads(PLAN.to_json())
    assert printed == {"name": "toy", "plan": {"p50_ms": 0.25}}


def test_what_is_known_lies_in_the_folder(measured: Measured, tmp_path: Path) -> None:
    (tmp_path / "history").touch()
    arguments = ["toy", "--cache-dir", str(tmp_path), "--max-relative-l2", "0.03"]
    assert one.main([*arguments, "--tuning-budget", "7"]) == 0
    assert measured.cached == ["history"]
    assert measured.cache_dir == tmp_path
    assert tmp_path.exists()
    assert (measured.asked["max_relative_l2"], measured.asked["tuning_budget_s"]) == (0.03, 7.0)


def test_an_error_is_a_message_and_a_code(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    measured.error = InputError("no such input")
    assert one.main(["toy"]) == InputError.exit_code
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "toy: no such input\n")


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("limit", [None, 0.03])
def test_the_process_is_asked_what_the_case_says(
    measured: Measured,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    limit: float | None,
    known: bool,
) -> None:
    def run(command: list[str], **_: Any) -> object:
        assert command[1:3] == ["-m", "benchmarks.one"]
        code = one.main(command[3:])
        return subprocess.CompletedProcess(command, code, capsys.readouterr().out)

    monkeypatch.setattr(subprocess, "run", run)
    case = Case("toy", "auto", limit)
    folder = tmp_path if known else None
    result = bench_case(case, folder, budget_s=3.0, time_s=0.5)
    assert result["plan"]["p50_ms"] == 0.25
    assert result["chosen"]["model_sha256"] == PLAN.model_sha256
    names = ("precision", "max_relative_l2", "tuning_budget_s", "time_s")
    assert tuple(measured.asked[name] for name in names) == ("auto", limit, 3.0, 0.5)
    assert (measured.cache_dir == tmp_path) is known
    measured.error = InputError("broken")
    with pytest.raises(BackendError, match="ended with 11") as caught:
        bench_case(case, folder, budget_s=3.0, time_s=0.5)
    assert caught.value.place == case.name


def test_names_of_cases() -> None:
    assert Case("m").name == "m, fp32"
    assert Case("m", "auto", 0.03).name == "m, auto at 0.03"
