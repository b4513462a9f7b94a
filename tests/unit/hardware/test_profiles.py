"""Hardware profiles: YAML in, each backend's answer out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dioe.hardware import HardwareProfile, load_profile, resolve_profile
from dioe.types import ConfigError, DeviceInfo, DeviceState, Effect, Resolution, UnsupportedError
from tests.toys.backend import ToyBackend, registry_of

CAMBRICON = """\
hardware:
  type: cambricon
  precision: int8
  optimizer:
    kernel_fusion: true
    tiling_strategy: auto
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_profile_as_it_stands(tmp_path: Path) -> None:
    path = written(tmp_path, CAMBRICON)
    assert load_profile(path) == HardwareProfile(
        "cambricon",
        {"precision": "int8", "kernel_fusion": True, "tiling_strategy": "auto"},
        str(path),
    )


def test_in_one_line_and_with_options_of_the_backend(tmp_path: Path) -> None:
    text = "hardware: {type: acme.fast, threads: 2, options: {level: [1, 2], depth: {a: x}}}"
    found = load_profile(written(tmp_path, text))
    assert found.type == "acme.fast"
    assert found.options == {"threads": 2, "level": [1, 2], "depth": {"a": "x"}}


@pytest.mark.parametrize(
    ("text", "place", "cause", "fix"),
    [
        (CAMBRICON.replace("kernel_f", "kernal_f"), "5:5", "kernal_fusion", "'kernel_fusion'"),
        (CAMBRICON.replace("precision", "precison"), "3:3", "precison", "'precision'"),
        (CAMBRICON.replace("int8", "int7"), "3:3", "int7", "correct"),
        (CAMBRICON.replace("hardware:", "hardwear:"), "1:1", "hardwear", "'hardware'"),
        ("hardware: {precision: fp32}", "1:1", "'type' is missing", "add"),
        ("hardware: {type: a, options: {threads: 1}}", "1:31", "threads", "outside of options"),
        ("hardware: {type: !!python/name:os.system a}", "1:18", "tag", "remove"),
        ("hardware: {type: a, type: b}", "1:21", "twice", "keep one"),
        ("hardware: {type: a, threads: yes}", "1:21", "threads", "correct"),
    ],
)
def test_errors_have_a_place_and_a_fix(
    tmp_path: Path, text: str, place: str, cause: str, fix: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load_profile(path)
    assert raised.value.place == f"{path}:{place}"
    assert cause in raised.value.cause
    assert fix in raised.value.fix


class Absent(ToyBackend):
    """One that answers without a device."""

    def probe(self) -> list[DeviceInfo]:
        return [DeviceInfo("npu:0", "npu", state=DeviceState.ABSENT, reason="none here")]

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Resolution]:
        return {key: Resolution(Effect.IGNORED, note=self.name) for key in options}


def test_every_backend_of_the_plugin_answers() -> None:
    registry = registry_of(Absent("acme.fast"), Absent("acme.slow"), ToyBackend("other"))
    profile = HardwareProfile("acme", {"precision": "fp32"})
    found = resolve_profile(profile, registry)
    assert {name: answers["precision"].note for name, answers in found.items()} == {
        "acme.fast": "acme.fast",
        "acme.slow": "acme.slow",
    }
    assert list(resolve_profile(HardwareProfile("acme.slow", {}), registry)) == ["acme.slow"]
    with pytest.raises(UnsupportedError, match="acmee") as raised:
        resolve_profile(HardwareProfile("acmee", {}), registry)
    assert "'acme'" in raised.value.fix
