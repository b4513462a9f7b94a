"""The models that DIOE's tables are about, and what shows that each of them works.

``python -m benchmarks.models`` fetches, exports and checks them all; every file is cached.
"""

from __future__ import annotations

from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run
from benchmarks.zoo.efficientnet import EFFICIENTNET
from benchmarks.zoo.ocr import DETECTOR

__all__ = ["MODELS", "BenchModel", "Evidence", "Feed", "Run"]

MODELS: dict[str, BenchModel] = {model.name: model for model in (DETECTOR, EFFICIENTNET)}
"""Every benchmark model by name. Nothing is fetched before a model is asked for it."""
