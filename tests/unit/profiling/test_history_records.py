"""What a cost is found again by, and what a cost may be."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from dioe.profiling import CostKey, History
from dioe.types import InputError, Resources
from tests.unit.profiling.costs import (
    KEY,
    OTHERS,
    cost,
    key,
)


def test_a_key_is_its_contents() -> None:
    same = CostKey(
        kind="block",
        subject="0123abcd",
        shapes=MappingProxyType({"mask": (1, 224), "x": (1, 3, 224, 224)}),
        target="cpu/toy/fp32",
        resources=Resources(cores=(0, 1), threads=2, spin=False),
        options={"tile": (np.int64(8), 8), "fusion": True},
        versions={"toy": "1.0"},
        hardware="cafe",
    )
    assert same == KEY
    assert hash(same) == hash(KEY)
    assert same.digest == KEY.digest
    assert KEY != "something else"


@pytest.mark.parametrize("name", OTHERS)
def test_every_part_of_a_key_counts(name: str) -> None:
    other = dataclasses.replace(KEY, **{name: OTHERS[name]})
    assert other != KEY
    assert (other.family == KEY.family) is (name == "shapes")


def test_keys_tell_true_from_one() -> None:
    assert key(options={"a": 1}) != key(options={"a": True})
    assert key(options={"a": 1}) != key(options={"a": "1"})


def test_a_resource_left_at_its_default_is_not_named() -> None:
    """So that a later field of Resources doesn't make all old costs unknown."""
    assert json.loads(KEY.columns[4]) == {"cores": [0, 1], "threads": 2, "spin": False}
    assert json.loads(key(resources=Resources()).columns[4]) == {}


@pytest.mark.parametrize("options", [{"a": object()}, {"a": {1, 2}}, {1: 2, "a": 3}])
def test_a_key_that_json_cant_hold_is_refused(options: dict[Any, Any]) -> None:
    with pytest.raises(InputError, match="options can't be kept") as caught:
        key(options=options)
    assert caught.value.fix


@pytest.mark.parametrize(
    "wrong",
    [
        {"p50_ms": math.nan}, {"p99_ms": math.inf}, {"p90_ms": -1.0}, {"runs": -1},
        {"runs": 2**63},
    ],
)  # fmt: skip
def test_times_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        cost(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"extra": {"a": object()}}, {"extra": {"a": "b" * 2**24}},
        {"measured_at": "yesterday"}, {"measured_at": "2026-01-01T00:00:00"},
    ],
    ids=["no JSON", "too long", "no time", "no zone"],
)  # fmt: skip
def test_records_that_cant_be_kept_are_refused(folder: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        History(folder).put(KEY, cost(**wrong))
    assert not folder.exists()
