"""What plugins say of themselves is checked, and made safe to show."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.registry.reports import (
    MAX_DEVICES,
    MAX_LINE,
    checked_devices,
    checked_name,
    one_line,
    some,
)
from dioe.types import DeviceInfo, KnownAs

GOOD = [
    DeviceInfo("cpu", "cpu", "A processor", uuid="host", memory_bytes=2**40),
    DeviceInfo("gpu:0", "gpu", shares="cpu", details={"cores": 7, "driver": "1.2", "on": True}),
    DeviceInfo("GPU.1", "gpu", known_as=KnownAs.SIMULATED),
]
BAD: dict[str, tuple[Any, str]] = {
    "no device": ("gpu:0", "str instead of DeviceInfo"),
    "no text": (DeviceInfo(7, "gpu"), "the id of a device is 7, no str"),  # type: ignore[arg-type]
    "no state": (DeviceInfo("a", "b", state="on"), "'on', no DeviceState"),  # type: ignore[arg-type]
    "no level": (DeviceInfo("a", "b", known_as="b"), "no KnownAs"),  # type: ignore[arg-type]
    "no size": (DeviceInfo("a", "b", memory_bytes="lots"), "no int"),  # type: ignore[arg-type]
    "flag for a size": (DeviceInfo("a", "b", memory_bytes=True), "memory_bytes of a device is T"),
    "negative": (DeviceInfo("a", "b", memory_bytes=-1), "memory_bytes of a device is -1"),
    "no id": (DeviceInfo("", "gpu"), "the id of a device is ''"),
    "a target's separator": (DeviceInfo("gpu/0", "gpu"), "it is like gpu:0"),
    "two lines": (DeviceInfo("gpu:0\nready", "gpu"), r"'gpu:0\nready'"),
    "steers the terminal": (DeviceInfo("a", "\x1b[2J"), r"the kind of a device is '\x1b[2J'"),
    "endless id": (DeviceInfo("x" * 10**7, "gpu"), "it is like gpu:0"),
    "no mapping": (DeviceInfo("a", "b", details=None), "no Mapping"),  # type: ignore[arg-type]
    "objects": (DeviceInfo("a", "b", details={"x": object()}), "'x': object"),  # type: ignore[dict-item]
}  # fmt: skip


def test_devices_as_they_should_be() -> None:
    assert checked_devices(iter(GOOD)) == tuple(GOOD)


@pytest.mark.parametrize(("device", "reason"), BAD.values(), ids=BAD.keys())
def test_what_is_no_device(device: Any, reason: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        checked_devices([*GOOD, device])
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


def test_texts_of_devices_are_made_safe() -> None:
    said = DeviceInfo("a", "b", name="x\n\x1b[31my", reason="no\ndriver " * 1000)
    (device,) = checked_devices([said])
    assert device.name == r"x \x1b[31my"
    assert device.reason.startswith("no driver no driver")
    assert len(device.reason) == MAX_LINE + 1


def test_devices_without_end() -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_DEVICES} devices"):
        checked_devices(itertools.repeat(GOOD[0]))
    assert some(range(3), 3, "things") == [0, 1, 2]


@pytest.mark.parametrize("name", ["openvino", "onnxruntime.webgpu", "my-backend_2", "A+b"])
def test_names(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a\n", ".a", "x" * 65, "\x1b[31m", 7, None])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises((TypeError, ValueError), match="the name of a backend is "):
        checked_name(name)


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    line = one_line(text, 20)
    assert line.isprintable()
    assert len(line) <= 21
    assert one_line(line) == " ".join(line.split())
