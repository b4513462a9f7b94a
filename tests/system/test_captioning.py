"""The pipeline of docs/what-if.md works: here it runs, on this machine's CPU and untuned."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import dioe

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "captioning"


def test_a_picture_has_a_caption_of_as_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    example = importlib.import_module("captioning")
    try:
        picture = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
        with dioe.compile(
            example.captions(), sample_inputs={"encode.picture": picture}, tuning_budget_s=0
        ) as session:
            out = session.run({"encode.picture": picture})
    finally:
        for name in ("models", "captioning"):
            sys.modules.pop(name, None)
    assert len(str(out["write.out"]).split()) == example.STEPS
