"""Many runs from many threads: every output right, and no memory kept."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

import dioe
from dioe.precision import compare
from tests.system.conftest import GetModel

THREADS = 8


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.parametrize(
    "runs", [2_000, pytest.param(10_000, marks=pytest.mark.slow)], ids=lambda runs: f"{runs} runs"
)
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("silero", "cpu/onnxruntime"),
        ("silero", "cpu/openvino"),
        ("ppocr-cls", "cpu/onnxruntime"),
        ("ppocr-cls", "cpu/openvino"),
    ],
)
def test_outputs_stay_right_and_memory_stays_flat(
    real_model: GetModel, tmp_path: Path, name: str, target: str, runs: int
) -> None:
    model = real_model(name)
    feeds = model.feeds
    rng = np.random.default_rng(0)
    for feed in list(feeds):  # more inputs than threads, all different
        changed = {
            n: (a * rng.uniform(0.5, 1.0)).astype(a.dtype) if a.dtype.kind == "f" else a
            for n, a in feed.items()
        }
        feeds = [*feeds, changed]
    answers = model.answers(feeds)

    with (
        dioe.compile(
            model.path, sample_inputs=feeds[0], devices=target, tuning_budget_s=0,
            cache_dir=tmp_path,
        ) as session,
        ThreadPoolExecutor(THREADS) as pool,
    ):  # fmt: skip

        def work(numbers: range) -> float:
            worst = 0.0
            for number in numbers:
                i = number % len(feeds)
                outputs = session.run(feeds[i], list(answers[i]))
                worst = max(worst, compare(outputs, answers[i]).error)
            return worst

        def run_all(first: int, last: int) -> float:
            return max(pool.map(work, [range(first + t, last, THREADS) for t in range(THREADS)]))

        tenth = runs // 10
        assert run_all(0, tenth) <= 1e-4
        before = resident_bytes()
        assert run_all(tenth, runs) <= 1e-4
        growth = resident_bytes() / before - 1
    assert growth < 0.01
