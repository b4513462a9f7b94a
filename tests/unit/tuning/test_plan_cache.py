"""Tuned plans kept between processes: found again for exactly the same, and never in the way."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import dioe
from dioe.profiling import rounds
from dioe.tuning.plan_cache import PlanCache
from dioe.tuning.samples import ShapeGroup
from dioe.types import Array, ConfigError, Plan
from tests.toys import models
from tests.toys.values import close, tensor
from tests.toys.work import Clock, WorkingBackend
from tests.unit.tuning.conftest import UseBackends


def rows(n: int = 4, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.fixture
def toy(use_backends: UseBackends, clock: Clock) -> WorkingBackend:
    toy = WorkingBackend("toy", clock, {"MatMul": 1.0})
    use_backends(toy)
    return toy


def tune(toy: WorkingBackend, model: Any = None, **settings: Any) -> tuple[Plan, bool]:
    """The plan, and whether anything was measured for it."""
    defaults: dict[str, Any] = {
        "sample_inputs": {"x": rows()}, "devices": "cpu/toy", "tuning_budget_s": 4
    }  # fmt: skip
    toy.log.clear()
    with dioe.compile(model or models.dense(), **(defaults | settings)) as session:
        runs = toy.count("run")
        close(tensor(session.run({"x": rows()})), models.dense_output(models.dense(), rows()))
        return session.plan, runs > 0


def test_the_second_time_nothing_is_measured(toy: WorkingBackend) -> None:
    first, measured = tune(toy)
    assert measured
    second, measured = tune(toy)
    assert not measured
    assert second == first
    assert toy.count("compile") == 1


def test_it_doesnt_matter_how_the_model_came(toy: WorkingBackend, tmp_path: Path) -> None:
    tune(toy)
    path = tmp_path / "other name.onnx"
    path.write_bytes(models.dense().SerializeToString())
    assert not tune(toy, path)[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"sample_inputs": {"x": rows(seed=1)}},
        {"sample_inputs": {"x": rows(5)}},
        {"sample_inputs": [{"x": rows()}, {"x": rows(seed=1)}]},
        {"sample_inputs": None},
    ],
    ids=["others", "another shape", "more", "made up"],
)
def test_other_inputs_are_measured(toy: WorkingBackend, settings: dict[str, Any]) -> None:
    tune(toy)
    assert tune(toy, **settings)[1]


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({"devices": ["cpu/toy/fp32"]}, "targets", ("cpu/toy/fp32",)),
        ({"precision": "auto"}, "precision", "auto"),
        ({"max_relative_l2": 1e-3}, "max_relative_l2", 1e-3),
        ({"tuning_budget_s": 5}, "targets", ("cpu/toy/fp32",)),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_other_settings_get_a_plan_of_their_own_from_known_costs(
    toy: WorkingBackend, tmp_path: Path, settings: dict[str, Any], field: str, value: object
) -> None:
    first, _ = tune(toy)
    plan, measured = tune(toy, **settings)
    assert not measured
    assert getattr(plan, field) == value
    assert plan.predicted_ms == first.predicted_ms
    assert len(list((tmp_path / "cache" / "plans").iterdir())) == 2


def test_another_model_is_measured(toy: WorkingBackend) -> None:
    tune(toy)
    with dioe.compile(
        models.dense(seed=4), sample_inputs={"x": rows()}, devices="cpu/toy", tuning_budget_s=4
    ):
        assert toy.count("run") > 0


def test_another_machine_is_measured(toy: WorkingBackend, tmp_path: Path) -> None:
    tune(toy)
    pool = tmp_path / "pool.yaml"
    pool.write_text(
        "format: dioe-pool\nversion: 1\ndevices:\n- {id: cpu, kind: cpu, name: Other CPU}\n"
    )
    assert tune(toy, hardware=pool)[1]


def test_another_version_of_a_backend_is_measured(
    use_backends: UseBackends, toy: WorkingBackend
) -> None:
    tune(toy)
    newer = WorkingBackend("toy", toy.clock, toy.costs)
    newer.version = "2"
    use_backends(newer)
    assert tune(newer)[1]


def test_a_backend_that_is_gone_is_not_waited_for(
    use_backends: UseBackends, toy: WorkingBackend
) -> None:
    tune(toy)
    other = WorkingBackend("other", toy.clock, toy.costs)
    use_backends(other)
    assert tune(other, devices="cpu/other")[0].targets == ("cpu/other/fp32",)


def test_without_a_budget_no_cache_is_asked_or_filled(toy: WorkingBackend, tmp_path: Path) -> None:
    tune(toy, tuning_budget_s=0)
    assert not (tmp_path / "cache").exists()
    tune(toy)
    assert tune(toy, tuning_budget_s=0)[0].predicted_ms is None


def test_the_argument_goes_before_the_environment(toy: WorkingBackend, tmp_path: Path) -> None:
    tune(toy, cache_dir=tmp_path / "mine")
    assert not (tmp_path / "cache").exists()
    assert len(list((tmp_path / "mine" / "plans").iterdir())) == 1
    assert not tune(toy, cache_dir=str(tmp_path / "mine"))[1]


def kept(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache" / "plans").iterdir()
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(""),
        lambda path: path.write_text("{}"),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_bytes(os.urandom(500)),
        lambda path: path.write_text(path.read_text().replace('"version": 1', '"version": 99', 1)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_plan_is_made_anew_with_a_warning(
    toy: WorkingBackend, tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = tune(toy)
    damage(kept(tmp_path))
    with caplog.at_level(logging.WARNING, "dioe"):
        plan, measured = tune(toy)
    assert "made anew" in caplog.text
    assert str(tmp_path) in caplog.text
    assert not measured  # the costs are known
    assert plan == first
    if kept(tmp_path).is_file():
        assert dioe.load_plan(kept(tmp_path)) == first


def test_a_plan_under_a_wrong_name_is_not_believed(toy: WorkingBackend, tmp_path: Path) -> None:
    """A file that was copied over by hand: it is another model's."""
    tune(toy)
    path = kept(tmp_path)
    plan = dioe.load_plan(path)
    assert isinstance(plan, dioe.Plan)
    path.write_text(plan.to_json().replace(plan.model_sha256, "0" * 64))
    assert tune(toy)[0] == plan
    assert dioe.load_plan(path) == plan


def test_a_cache_that_is_a_file_is_worked_around(
    toy: WorkingBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "file"
    place.write_text("in the way")
    with caplog.at_level(logging.WARNING, "dioe"):
        assert tune(toy, cache_dir=place)[1]
        assert not tune(toy, cache_dir=place)[1]  # remembered by this process
    assert str(place) in caplog.text
    assert place.read_text() == "in the way"


def test_a_folder_that_cant_be_made_is_worked_around(toy: WorkingBackend, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "plans").write_text("in the way")
    assert tune(toy)[1]


def test_the_environment_naming_a_file_is_a_config_error(
    toy: WorkingBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "file"
    place.write_text("in the way")
    monkeypatch.setenv("DIOE_CACHE_DIR", str(place))
    with pytest.raises(ConfigError, match="DIOE_CACHE_DIR") as caught:
        tune(toy)
    assert caught.value.fix


def test_nothing_half_written_is_left(toy: WorkingBackend, tmp_path: Path) -> None:
    tune(toy)
    left = [path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sorted(left) == [".json", ".sqlite"]


def test_noisy_plans_are_not_kept(toy: WorkingBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "others_share", lambda before, after: 0.5)
    plan, _ = tune(toy)
    assert any(candidate.noisy for candidate in plan.candidates)
    assert tune(toy)[1]


# --- keys ---------------------------------------------------------------------------------------

LONG = np.arange(5000, dtype=np.float32)
CHANGED = LONG.copy()
CHANGED[2500] = -1
WORDS = np.array([str(i) for i in range(5000)], dtype=object)
OTHER_WORDS = WORDS.copy()
OTHER_WORDS[2500] = "changed"

VALUES: list[Any] = [
    LONG,
    CHANGED,
    LONG.reshape(50, 100),
    LONG.astype(np.float64),
    LONG.astype(np.int32),
    LONG.astype(ml_dtypes.bfloat16),
    LONG[:0],
    np.array(3.0, np.float32),
    np.array(True),
    WORDS,
    OTHER_WORDS,
    np.array(["ab", "c"], dtype=object),
    np.array(["a", "bc"], dtype=object),
    [LONG],
    [CHANGED],
    [LONG, LONG],
    [[LONG], [LONG]],
    [],
    None,
    {1: LONG},
    {2: LONG},
]


def key(value: Any, **settings: Any) -> str:
    return PlanCache(Path()).key(ShapeGroup({}, ({"x": value},), real=True), settings)


def test_keys_tell_all_values_apart() -> None:
    keys = [key(value) for value in VALUES]
    assert len(set(keys)) == len(VALUES)
    assert keys == [key(value) for value in VALUES]


def test_keys_dont_depend_on_memory_layout() -> None:
    matrix = LONG.reshape(50, 100)
    assert key(matrix) == key(np.asfortranarray(matrix))
    assert key(LONG) == key(np.repeat(LONG, 2)[::2])


def test_keys_tell_settings_apart() -> None:
    assert key(LONG, a=1) != key(LONG, a=2)
    assert key(LONG, a=1, b=2) == key(LONG, b=2, a=1)
