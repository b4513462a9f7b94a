"""DIOE, the Dynamic Inference Optimization Engine.

Takes a trained model and the devices of a machine, measures what runs it fastest within an
accuracy limit, runs it there, and says why::

    import dioe

    with dioe.compile("model.onnx", sample_inputs={"x": array}) as session:
        outputs = session.run({"x": array})
        print(session.plan.explain())
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dioe.hardware import Pool, host_pool, load_pool
    from dioe.planning import load_plan
    from dioe.runtime import BoundRequest, Pipeline, PipelineSession, Runtime, Session
    from dioe.tuning import ModelledPlan, bench, calibrate, plan, predict
    from dioe.tuning import compile_model as compile  # noqa: A004 - the word users expect
    from dioe.types import DioeError, PipelinePlan, Plan

try:
    __version__ = _version("dioe")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

__all__ = [
    "BoundRequest",
    "DioeError",
    "ModelledPlan",
    "Pipeline",
    "PipelinePlan",
    "PipelineSession",
    "Plan",
    "Pool",
    "Runtime",
    "Session",
    "__version__",
    "bench",
    "calibrate",
    "compile",
    "host_pool",
    "load_plan",
    "load_pool",
    "plan",
    "predict",
]

_HOME = {
    "BoundRequest": "dioe.runtime",
    "DioeError": "dioe.types",
    "ModelledPlan": "dioe.tuning",
    "Pipeline": "dioe.runtime",
    "PipelinePlan": "dioe.types",
    "PipelineSession": "dioe.runtime",
    "Plan": "dioe.types",
    "Pool": "dioe.hardware",
    "Runtime": "dioe.runtime",
    "Session": "dioe.runtime",
    "bench": "dioe.tuning",
    "calibrate": "dioe.tuning",
    "compile": "dioe.tuning",
    "host_pool": "dioe.hardware",
    "load_plan": "dioe.planning",
    "load_pool": "dioe.hardware",
    "plan": "dioe.tuning",
    "predict": "dioe.tuning",
}


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that ``import dioe`` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'dioe' has no attribute {name!r}")
    import importlib

    module = importlib.import_module(_HOME[name])
    value = getattr(module, "compile_model" if name == "compile" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
