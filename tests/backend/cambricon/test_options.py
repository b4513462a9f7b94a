"""Options of ``cambricon.magicmind`` and the build configuration that they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dioe.types import Effect, InputError, Precision, TensorSpec, UnsupportedError
from dioe_cambricon.backend import MagicMindBackend
from dioe_cambricon.build import build_config, input_dims

X = TensorSpec("x", np.dtype(np.float32), (1, 3, 8, 8))
OPEN = TensorSpec("o", np.dtype(np.float32), ("N", 3))


def test_every_key_of_a_profile_has_an_answer_without_a_card() -> None:
    asked = {"precision": "int8", "kernel_fusion": True, "tiling_strategy": "auto", "fusion": 1}
    found = MagicMindBackend().resolve(asked)
    assert {key: answer.effect for key, answer in found.items()} == {
        "precision": Effect.APPLIED,
        "kernel_fusion": Effect.APPLIED,
        "tiling_strategy": Effect.IGNORED,
        "fusion": Effect.REJECTED,
    }
    assert found["precision"].native_key == "precision_config.precision_mode=qint8_mixed_float16"
    assert found["kernel_fusion"].native_key == "debug_config.fusion_enable"
    assert "no public knob" in found["tiling_strategy"].note


@pytest.mark.parametrize(
    ("key", "value", "effect"),
    [
        ("precision", "bf16", Effect.REJECTED),
        ("precision", "fp16", Effect.APPLIED),
        ("optimize", False, Effect.APPROXIMATED),
        ("profile", True, Effect.REJECTED),
        ("streams", 2, Effect.APPROXIMATED),
        ("archs", ["mtp_372"], Effect.APPLIED),
        ("archs", "mtp_372", Effect.REJECTED),
        ("dim_range", {"x": {"min": [1], "max": [2]}}, Effect.APPLIED),
        ("dim_range", {"x": {"min": [1]}}, Effect.REJECTED),
        ("dim_range", {"x": {"min": [0], "max": [2]}}, Effect.REJECTED),
        ("computation_preference", "quick", Effect.REJECTED),
    ],
)
def test_options(key: str, value: Any, effect: Effect) -> None:
    (answer,) = MagicMindBackend().resolve({key: value}).values()
    assert answer.effect is effect
    assert answer.effect is not Effect.REJECTED or answer.note


@pytest.mark.parametrize(
    ("card", "archs"), [("MLU370-X8", ["mtp_372"]), ("MLU999", None), ("", None)]
)
def test_the_card_tells_the_architecture(card: str, archs: list[str] | None) -> None:
    assert build_config(Precision.FP32, {}, [X], card=card).get("archs") == archs
    chosen = build_config(Precision.FP32, {"archs": ["mtp_592"]}, [X], card=card)
    assert chosen["archs"] == ["mtp_592"]


def test_fusion() -> None:
    def fused(**options: bool) -> bool:
        found = build_config(Precision.FP32, options, [X])["debug_config"]["fusion_enable"]
        assert isinstance(found, bool)
        return found

    assert fused()
    assert not fused(kernel_fusion=False)
    assert not fused(optimize=False)
    assert fused(optimize=False, kernel_fusion=True)


def test_ranges_of_dimensions_go_by_place() -> None:
    options = {"dim_range": {"o": {"min": [1, 3], "max": [9, 3]}}}
    config = build_config(Precision.FP32, options, [X, OPEN])
    assert config["dim_range"] == {
        "0": {"min": [1, 3, 8, 8], "max": [1, 3, 8, 8]},
        "1": {"min": [1, 3], "max": [9, 3]},
    }
    for wrong in ({"p": {"min": [1], "max": [1]}}, {"o": {"min": [1], "max": [1]}}, {}):
        with pytest.raises(InputError, match="dim_range"):
            build_config(Precision.FP32, {"dim_range": wrong}, [X, OPEN])
    with pytest.raises(InputError, match="without open dimensions"):
        build_config(Precision.FP32, {"dim_range": {}}, [X])


def test_dimensions_of_inputs() -> None:
    assert input_dims([X, OPEN], None) == {"x": [1, 3, 8, 8], "o": [-1, 3]}
    feeds = [{"x": np.ones((1, 3, 8, 8), np.float32), "o": np.ones((4, 3), np.float32)}]
    assert input_dims([X, OPEN], feeds)["o"] == [4, 3]
    with pytest.raises(UnsupportedError, match="rank"):
        input_dims([TensorSpec("u", np.dtype(np.float32), None)], None)
