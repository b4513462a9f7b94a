"""The public names of ``dioe``: these and no others (docs/stability.md)."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import dioe

PUBLIC = {
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
    "__version__": "dioe",
    "bench": "dioe.tuning",
    "calibrate": "dioe.tuning",
    "compile": "dioe.tuning",
    "host_pool": "dioe.hardware",
    "load_plan": "dioe.planning",
    "load_pool": "dioe.hardware",
    "plan": "dioe.tuning",
    "predict": "dioe.tuning",
}


def test_the_list() -> None:
    assert dioe.__all__ == sorted(PUBLIC)
    assert dir(dioe) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"__version__"}))
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(dioe, name)
    home = importlib.import_module(PUBLIC[name])
    assert value is getattr(home, "compile_model" if name == "compile" else name)
    assert value.__module__.startswith(PUBLIC[name])
    assert inspect.getdoc(value)
    assert getattr(dioe, name) is value


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(dioe.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.asname or alias.name): node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen | {"__version__": "dioe"} == PUBLIC


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match="module 'dioe' has no attribute 'compile_model'"):
        dioe.compile_model  # noqa: B018
    namespace: dict[str, object] = {}
    exec("from dioe import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(PUBLIC)


def test_what_compile_takes() -> None:
    parameters = inspect.signature(dioe.compile).parameters
    assert {name: p.default for name, p in parameters.items() if name != "model"} == {
        "hardware": None,
        "devices": "auto",
        "policy": "latency",
        "precision": "fp32",
        "max_relative_l2": None,
        "sample_inputs": None,
        "tuning_budget_s": 30.0,
        "pins": (),
        "strict": False,
        "limits": None,
        "plan": None,
        "state": None,
        "cache_dir": None,
        "tune_shapes": True,
    }
    kinds = [p.kind for p in parameters.values()]
    assert kinds == [inspect.Parameter.POSITIONAL_OR_KEYWORD] + 14 * [
        inspect.Parameter.KEYWORD_ONLY
    ]
    for name in (
        "run",
        "bind",
        "close",
        "plan",
        "plans",
        "transfers",
        "reset_state",
        "__enter__",
        "__exit__",
    ):
        assert hasattr(dioe.Session, name)
