"""Which devices of a pool are here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dioe.hardware import DeviceSpec, Pool, host, load_pool, presence
from dioe.hardware.catalogue import POOLS, path_of
from dioe.hardware.presence import absent_devices
from dioe.registry import Placement
from dioe.types import DeviceInfo, DeviceState, KnownAs


def found(device: str, **about: Any) -> Placement:
    info = replace(DeviceInfo(device, device.partition(":")[0]), **about)
    return Placement(info, {"a": device})


@pytest.fixture(autouse=True)
def host_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DeviceSpec("cpu", name="A CPU", known_as=KnownAs.HARDWARE)
    monkeypatch.setattr(presence, "host_pool", lambda: Pool((spec,)))


def test_ids_that_nothing_has_are_absent() -> None:
    pool = Pool((DeviceSpec("cpu"), DeviceSpec("gpu:0"), DeviceSpec("gpu:1")))
    gone = absent_devices(
        pool, [found("gpu:0"), found("gpu:1", state=DeviceState.ABSENT, reason="no driver")]
    )
    assert gone == {"gpu:1": "no backend finds it"}
    assert absent_devices(pool, [], ["cpu"]) == {}


def test_another_device_of_the_catalogue_is_absent_unless_it_was_found() -> None:
    other = DeviceSpec("cpu", device="epyc-9654")
    assert absent_devices(Pool((other,)), []) == {"cpu": "in the pool it is epyc-9654, here A CPU"}
    mine = replace(other, known_as=KnownAs.HARDWARE)
    assert absent_devices(Pool((mine,)), []) == {}
    card = Pool((DeviceSpec("gpu:0", device="l4"),))
    assert absent_devices(card, [found("gpu:0", name="NVIDIA L4")]) == {}
    assert absent_devices(card, [found("gpu:0", name="NVIDIA A100")])


def test_a_modelled_device_is_here_where_the_pool_has_no_figures_of_it() -> None:
    npu = found("npu:0", known_as=KnownAs.MODELLED)
    assert absent_devices(Pool((DeviceSpec("npu:0"),)), [npu]) == {}
    laptop = load_pool(path_of("laptop-meteor-lake", POOLS) or "")
    assert "npu:0" in absent_devices(laptop, [npu])


def test_the_host_is_here() -> None:
    assert host.host_pool().devices[0].id == "cpu"
    assert absent_devices(host.host_pool(), []) == {}
