"""Real models at many shapes: right at once, right again once they were tuned in the background."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import dioe
from benchmarks.dynamic_shapes import FIRST, SIZES, picture, references
from benchmarks.models import Feed
from dioe.precision import compare
from dioe.runtime import Session, background
from dioe.tuning.background import BackgroundTuner
from dioe.tuning.buckets import OPEN, bucket_of
from dioe.types import Array
from tests.system.conftest import GetModel, RealModel

WAIT_S = 240.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared machine is seldom quiet for as long as users have."""
    monkeypatch.setattr(background, "MAX_QUIET_WAIT_S", 0.2)


def check(session: Session, feeds: list[Feed], answers: list[dict[str, Array]]) -> None:
    limit = session.plans[0].max_relative_l2
    assert limit is not None
    for feed, answer in zip(feeds, answers, strict=True):
        assert compare(session.run(feed, list(answer)), answer).error <= limit


def test_the_detector_at_twenty_picture_sizes(
    real_model: GetModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = real_model("ppocr-det")
    feeds = {size: picture(size) for size in (FIRST, *SIZES)}
    answers = references(feeds)
    assert len(SIZES) == 20
    listed = [feeds[size] for size in SIZES]
    right = [answers[size] for size in SIZES]
    with dioe.compile(
        model.path, sample_inputs=feeds[FIRST], tuning_budget_s=4, cache_dir=tmp_path
    ) as session:
        check(session, listed, right)
        assert session.wait_for_tuning(WAIT_S)
        check(session, listed, right)
        prepared = {plan.shapes["x"]: plan for plan in session.plans[2:]}
        tuner = session._tuner
    assert isinstance(tuner, BackgroundTuner)
    shapes = {(1, 3, *size) for size in SIZES}
    buckets = {shape: bucket_of(session.model.inputs, {"x": shape}) for shape in shapes}
    assert set(prepared) <= shapes
    assert not [r for r in caplog.records if "stay on the safe variant" in r.message]  # failures
    # now and then the plan with open shapes is as fast: measured there, or at the nearest measured
    for shape in shapes - set(prepared):
        ranking = tuner.choices.get(buckets[shape])
        assert ranking is None or ranking.costs[0][0] == OPEN
    assert len(prepared) >= len(shapes) / 2
    measured = [plan for plan in prepared.values() if plan.candidates]
    assert len(measured) <= len(set(buckets.values()))
    for plan in prepared.values():
        assert plan.relative_l2 is not None
        assert plan.relative_l2 <= 1e-4
        assert plan.predicted_ms is not None


def shorter_chunks(model: RealModel) -> Iterator[Feed]:
    for feed in model.feeds:
        yield feed | {"input": np.ascontiguousarray(feed["input"][:, 32:])}


def test_silero_at_another_length(real_model: GetModel, tmp_path: Path) -> None:
    """Its ``If`` nodes make a difference between shapes that are bound and those left open."""
    model = real_model("silero")
    shorter = list(shorter_chunks(model))
    answers = model.answers(shorter)
    with dioe.compile(
        model.path, sample_inputs=model.feeds, tuning_budget_s=1, cache_dir=tmp_path
    ) as session:
        for _ in range(2):
            check(session, shorter, answers)
            check(session, model.feeds, model.answers())
            assert session.wait_for_tuning(WAIT_S)


def test_magika_in_batches(real_model: GetModel, tmp_path: Path) -> None:
    model = real_model("magika")
    (name,) = model.feeds[0]
    files = np.concatenate([feed[name] for feed in model.feeds])
    batches = [{name: np.resize(files, (n, *files.shape[1:]))} for n in (1, 2, 3, 20, 24)]
    answers = model.answers(batches)
    with dioe.compile(
        model.path, sample_inputs=model.feeds[0], tuning_budget_s=2, cache_dir=tmp_path
    ) as session:
        for _ in range(2):
            check(session, batches, answers)
            assert session.wait_for_tuning(WAIT_S)
