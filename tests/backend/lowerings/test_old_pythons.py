"""Lowerings are read by a worker on a vendor's old Python: its syntax, no other imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import dioe_torch

FOLDER = Path(dioe_torch.__file__).parent / "lowerings"
MODULES = sorted(FOLDER.glob("*.py"))
ALLOWED = {"torch", "numpy", ""}
NEWER_THAN_3_7 = {"functools": {"cache", "cached_property"}, "typing": {"Final", "Literal"}}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_syntax_of_python_3_7(module: Path) -> None:
    tree = ast.parse(module.read_text(), feature_version=(3, 7))
    futures = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    assert any(alias.name == "annotations" for node in futures for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            keywords = {keyword.arg for keyword in node.keywords}
            assert not (node.func.id == "zip" and "strict" in keywords), f"line {node.lineno}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_imports_torch_and_numpy_only(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                assert root in ALLOWED or root in sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            root = (node.module or "").partition(".")[0]
            assert root in ALLOWED or root in sys.stdlib_module_names
            newer = NEWER_THAN_3_7.get(node.module or "", set())
            assert not newer & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, "it has to work under any package name"
