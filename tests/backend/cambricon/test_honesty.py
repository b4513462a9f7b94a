"""A figure of the fakes is never shown as a measured one, wherever a person may read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import dioe
from dioe.cli.app import app
from dioe.runtime import Runtime
from dioe.types import KnownAs
from dioe_cambricon.backend import MagicMindBackend
from tests.backend.cambricon.models import images, resnet
from tests.toys.backend import registry_of

TARGET = "mlu:0/cambricon.magicmind/fp32"


@pytest.fixture
def runtime(magicmind: MagicMindBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A runtime with the backend on the fakes beside ONNX Runtime, the process's own."""
    made = Runtime(registry_of(magicmind, installed=("onnxruntime",)))
    monkeypatch.setattr(Runtime, "_current", made)
    yield made
    made.close()


def test_plans_and_reports_say_contract(runtime: Runtime) -> None:
    feed = images(1)[0]
    with dioe.compile(
        resnet(), devices=["mlu:0"], sample_inputs=feed, tuning_budget_s=3, tune_shapes=False
    ) as session:
        plan = session.plan
        assert np.asarray(session.run(feed)["scores"]).shape == (1, 10)
    assert plan.targets == (TARGET,)
    (report,) = [c for c in plan.candidates if c.target == TARGET]
    assert report.known_as is KnownAs.CONTRACT
    assert any("mlu:0 is a fake of its vendor's API" in note for note in plan.notes)
    text = plan.explain()
    assert "measured" not in text
    assert "ms contract" in text


def test_commands_say_contract(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "resnet.onnx"
    path.write_bytes(resnet().to_bytes())
    run = CliRunner()
    shown = run.invoke(app, ["devices"])
    assert "mlu:0 (contract)" in shown.output
    budget = ["--devices", "mlu:0", "--tuning-budget", "2"]
    explained = run.invoke(app, ["plan", str(path), "--explain", *budget]).output
    assert "contract" in explained
    assert "measured" not in explained.replace("not measured", "").lower()
