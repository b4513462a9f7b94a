"""Measuring models kernel by kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import dioe
from dioe.tuning import Job, Settings
from dioe.tuning.learn import measure_kernels
from dioe.types import BackendError, Feeds, OpTime, Precisions, Resources, StageModel
from tests.toys import models
from tests.toys.backend import ToyBackend, ToyContext, ToyExecutable
from tests.unit.tuning.conftest import UseBackends


class Fickle(ToyBackend):
    """Compiles with a per-op clock, and fails without."""

    def open(self, device: str, resources: Resources) -> ToyContext:
        return FickleContext(self, device, resources)


class FickleContext(ToyContext):
    def compile(
        self,
        model: StageModel,
        precisions: Precisions,
        options: Mapping[str, Any],
        calibration: Sequence[Feeds] | None = None,
    ) -> ToyExecutable:
        if not options.get("profile"):
            raise BackendError("not today", place="fickle")
        return super().compile(model, precisions, options, calibration)


def test_a_target_that_fails_while_it_is_timed_is_left_out(
    use_backends: UseBackends, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ToyExecutable, "profile", lambda self: (OpTime("m", "MatMul", ("m",), 1.0, 1),)
    )
    use_backends(Fickle("fickle"), ToyBackend("steady"))
    wanted = Settings(devices=["cpu/fickle", "cpu/steady"])
    job = Job(models.dense(), hardware=dioe.host_pool(), settings=wanted, sample_inputs=None)
    with caplog.at_level("WARNING", "dioe"):
        found = measure_kernels(job, job.candidates(job.groups[0]), seconds=0.1)
    assert {str(target) for target in found} == {"cpu/steady/fp32"}
    assert "cpu/fickle/fp32 is left out: not today" in caplog.text
