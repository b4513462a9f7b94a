"""Limits on real backends: what is forbidden isn't tried, and what is too large isn't loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dioe
from dioe.host_backend import static_shape
from dioe.types import Backend, OutOfMemory, Precision
from tests.backend.cases import small_network

TARGETS = ["cpu/openvino", "cpu/onnxruntime"]


def compiled(folder: Path, **settings: Any) -> dioe.Session:
    model = small_network()
    (x,) = model.inputs
    feeds = {x.name: np.random.default_rng(4).standard_normal(static_shape(x), np.float32)}
    session: dioe.Session = dioe.compile(
        model.to_proto(), devices=TARGETS, precision="auto", sample_inputs=feeds,
        tuning_budget_s=2.0, cache_dir=folder, tune_shapes=False, **settings,
    )  # fmt: skip
    return session


def test_a_forbidden_precision_is_in_no_plan(openvino: Backend, tmp_path: Path) -> None:
    if Precision.BF16 not in openvino.capabilities("cpu").computes:
        pytest.skip("this CPU has no bf16 arithmetic")
    with compiled(tmp_path, limits={"forbid": {"cpu": ["bf16"]}}) as session:
        plan = session.plan
    reports = {report.target: report for report in plan.candidates}
    assert reports["cpu/openvino/bf16"].reason == "forbidden by limits: no bf16 on cpu"
    assert reports["cpu/openvino/bf16"].runs == 0
    assert reports["cpu/openvino/fp32"].state == "ok"
    used = {p for stage in plan.stages for p in stage.precisions.used}
    assert used == {Precision.FP32}
    assert all("bf16" not in r.target for r in plan.candidates if r.state != "unsupported")
    assert not plan.tradeoffs
    with compiled(tmp_path) as session:  # neither the plan nor the search is taken for its own
        tried = {report.target: report for report in session.plan.candidates}
    assert tried["cpu/openvino/bf16"].state != "unsupported"


def test_the_hosts_memory_is_kept_before_anything_is_loaded(
    openvino: Backend, tmp_path: Path
) -> None:
    assert openvino.name == "openvino"
    with pytest.raises(OutOfMemory, match="cpu may use 2 KiB of memory, and at least") as caught:
        compiled(tmp_path, limits={"memory": {"cpu": "2 KiB"}})
    assert "at most 2 KiB of cpu's memory" in caught.value.fix
    with compiled(tmp_path, limits={"memory": {"cpu": "1 GiB"}, "max_stages": 1}) as session:
        (stage,) = session.plan.stages
    assert stage.resources.memory_limit_bytes == 2**30
