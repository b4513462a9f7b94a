"""Limits: how they are written, what wins, and what is wrong."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from dioe.hardware.limits import Limits, check_devices, limits_from
from dioe.types import InputError, Precision

BF16, INT8 = Precision.BF16, Precision.INT8
WRITTEN: dict[str, Any] = {
    "memory": {"gpu:0": "8 GiB", "cpu": "512 MB"},
    "forbid": {"cpu": ["int8", "bf16"], "*": {"int4"}},
    "max_stages": 2,
    "power": "60 W",
}


def test_a_mapping_as_a_file_has_it() -> None:
    limits = limits_from(WRITTEN)
    assert limits.memory_bytes == {"gpu:0": 8 * 2**30, "cpu": 512_000_000}
    assert limits.max_stages == 2
    assert limits.power_w == 60
    assert limits.forbids("cpu", BF16)
    assert not limits.forbids("gpu:0", BF16)
    assert limits.forbids("gpu:0", Precision.INT4)
    assert limits_from(limits) is limits
    assert limits_from(limits.to_data()) == limits
    assert not limits_from(None)
    assert pickle.loads(pickle.dumps(limits)) == limits


def test_equal_limits_are_written_alike() -> None:
    other: dict[str, Any] = {"forbid": {"*": ["int4"], "cpu": ["bf16", "int8"]}, "power": "0.06 kW"}
    other |= {"memory": {"cpu": "512000 kB", "gpu:0": "8192 MiB"}, "max_stages": 2}
    assert str(limits_from(other).to_data()) == str(limits_from(WRITTEN).to_data())


def test_in_words() -> None:
    assert list(limits_from(WRITTEN).phrases()) == [
        "at most 8 GiB of gpu:0's memory",
        "at most 512 MB of cpu's memory",
        "no bf16 or int8 on cpu",
        "no int4 anywhere",
        "at most 2 stages",
        "at most 60 W for all devices together",
    ]


def test_those_given_win() -> None:
    pool = limits_from(WRITTEN)
    given = limits_from({"memory": {"cpu": "1 GiB"}, "forbid": {"cpu": []}, "max_stages": 1})
    both = given.over(pool)
    assert both.memory_bytes == {"gpu:0": 8 * 2**30, "cpu": 2**30}
    assert not both.forbids("cpu", BF16)
    assert both.max_stages == 1
    assert both.power_w == 60


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("60 W", "limits is a str"),
        ({"memory": {"cpu": "8"}}, "limits.memory.cpu: '8'.*no unit"),
        ({"memory": {"cpu": 8}}, "no size with its unit"),
        ({"memory": {"cpu": "0 B"}}, "greater than 0"),
        ({"memory": {"cpu": "8 GW"}}, "unknown unit 'GW'"),
        ({"power": "60"}, "limits.power: '60'"),
        ({"powr": "60 W"}, "unknown key 'powr'; did you mean 'power'"),
        ({"max_stages": 0}, "limits.max_stages: 0"),
        ({"max_stages": True}, "limits.max_stages: True"),
        ({"forbid": {"cpu": ["fp12"]}}, "limits.forbid.cpu.0: 'fp12'"),
        ({"forbid": ["int8"]}, "limits.forbid"),
        ({"power": object()}, "limits.power"),
    ],
)
def test_what_is_wrong(given: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        limits_from(given)
    assert caught.value.fix


def test_devices_that_are_not_there() -> None:
    limits = Limits({"gpu:1": 1}, {"*": frozenset({INT8})})
    with pytest.raises(InputError, match="no device 'gpu:1'; did you mean 'gpu:0'") as caught:
        check_devices(limits, {"cpu", "gpu:0"})
    assert "cpu, gpu:0" in caught.value.fix
    check_devices(limits, {"cpu", "gpu:1"})


def test_memory_is_limited_by_device_only() -> None:
    everywhere = Limits({"*": 2**30}, {"*": frozenset({INT8})})
    with pytest.raises(InputError, match=r"there is no device '\*'"):
        check_devices(everywhere, ["cpu"])
    check_devices(Limits(forbidden={"*": frozenset({INT8})}), ["cpu"])
