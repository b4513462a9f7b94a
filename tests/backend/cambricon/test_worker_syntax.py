"""What the worker runs is for old Pythons: their syntax, the standard library and numpy."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import dioe_cambricon

FOLDER = Path(dioe_cambricon.__file__).parent / "worker"
FILES = sorted(FOLDER.glob("*.py"))
ALLOWED = {"numpy", "dioe_cambricon", *sys.stdlib_module_names}
NEWER = {"zoneinfo", "graphlib", "tomllib"}  # than Python 3.7


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_python_3_7_reads_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 7))
    future = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    assert path.name == "__init__.py" or next(future).module == "__future__"
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            assert top in ALLOWED - NEWER
            assert top != "dioe_cambricon" or name.startswith("dioe_cambricon.worker")
        if isinstance(node, ast.Call):
            words = {keyword.arg for keyword in node.keywords}
            called = ast.unparse(node.func)
            assert called != "zip" or "strict" not in words, "3.10 has zip(strict=)"
            removed = called.endswith((".removeprefix", ".removesuffix", ".unlink"))
            assert not removed or not words, "newer than 3.7"
            assert not called.endswith((".removeprefix", ".removesuffix", "math.prod"))


def test_start_imports_nothing_of_the_plugin() -> None:
    tree = ast.parse((FOLDER / "start.py").read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported <= {"importlib", "sys", "types"}
