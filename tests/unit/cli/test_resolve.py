"""``dioe resolve``."""

from __future__ import annotations

from pathlib import Path

import pytest

from dioe.types import ConfigError, UnsupportedError
from dioe_cambricon.backend import MagicMindBackend
from dioe_cambricon.host import VARIABLE
from tests.unit.cli.conftest import Dioe, UseBackends

PROFILE = """\
hardware:
  type: cambricon
  precision: int8
  optimizer:
    kernel_fusion: true
    tiling_strategy: auto
"""


@pytest.fixture
def profile(tmp_path: Path, use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)
    use_backends(MagicMindBackend())
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    return path


def test_a_table_without_a_card(dioe: Dioe, profile: Path) -> None:
    shown = dioe("resolve", str(profile))
    assert shown.code == 0
    words = " ".join(shown.out.split())
    assert "cambricon.magicmind (absent)" in words
    assert "cambricon.magicmind is absent: DIOE_CAMBRICON_PYTHON isn't set" in words
    for word in ("applied", "ignored", "kernel_fusion", "tiling_strategy"):
        assert word in shown.out


def test_json(dioe: Dioe, profile: Path) -> None:
    found = dioe("resolve", str(profile), "--json").json
    assert found["type"] == "cambricon"
    (backend,) = found["backends"].values()
    assert backend["state"] == "absent"
    effects = {key: answer["effect"] for key, answer in backend["options"].items()}
    assert effects == {
        "precision": "applied", "kernel_fusion": "applied", "tiling_strategy": "ignored",
    }  # fmt: skip
    assert backend["options"]["kernel_fusion"]["native_key"] == "debug_config.fusion_enable"


def test_a_descriptor_asks_what_its_backend_section_says(
    dioe: Dioe, profile: Path, tmp_path: Path
) -> None:
    found = dioe("resolve", "mlu370-x8", "--json").json
    assert found["type"] == "cambricon"
    assert found["options"] == {
        "precision": "int8", "kernel_fusion": True, "tiling_strategy": "auto",
    }  # fmt: skip
    bare = tmp_path / "bare.yaml"
    bare.write_text("format: dioe-device\nversion: 1\nid: bare\nname: Bare\nkind: gpu\n")
    shown = dioe("resolve", str(bare))
    assert shown.code == ConfigError.exit_code
    assert "names no backend" in shown.err


def test_errors(dioe: Dioe, profile: Path) -> None:
    profile.write_text(PROFILE.replace("cambricon", "cambrican"))
    shown = dioe("resolve", str(profile))
    assert shown.code == UnsupportedError.exit_code
    assert "did you mean 'cambricon'?" in shown.err
    profile.write_text(PROFILE.replace("tiling_strategy", "tiling_strategie"))
    shown = dioe("resolve", str(profile))
    assert shown.code == ConfigError.exit_code
    assert "6:5" in shown.err
    assert "did you mean 'tiling_strategy'?" in shown.err
