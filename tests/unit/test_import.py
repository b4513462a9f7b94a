"""What an import costs, and which way imports go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "onnxruntime", "openvino", "onnx", "onnx_ir", "networkx", "pydantic", "psutil")
PACKAGES = sorted(
    path.parent.name if path.name == "__init__.py" else path.stem
    for pattern in ("*/__init__.py", "*.py")
    for path in (ROOT / "dioe").glob(pattern)
    if path != ROOT / "dioe/__init__.py"
)


def loaded_after(code: str) -> tuple[set[str], float]:
    """Top-level modules that ``code`` leaves loaded in a fresh process, and its seconds."""
    script = f"""
import json, sys, time
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
top = sorted({{name.partition(".")[0] for name in sys.modules}})
print(json.dumps([top, seconds]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    modules, seconds = json.loads(done.stdout.splitlines()[-1])
    return set(modules), seconds


def test_importing_dioe_is_quick_and_light() -> None:
    seconds = []
    for _ in range(5):
        modules, took_s = loaded_after("import dioe")
        assert modules.isdisjoint({*HEAVY, "numpy"})
        seconds.append(took_s)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_command_imports_nothing_heavy_to_say_what_it_is(option: str) -> None:
    code = f"from dioe.cli.app import run; assert run([{option!r}]) == 0"
    modules, _ = loaded_after(code)
    assert "typer" in modules
    # pydantic may be there: newer versions of typer read options with it
    assert modules.isdisjoint(set(HEAVY) - {"pydantic"})


def test_no_package_imports_a_runtime() -> None:
    code = "\n".join(f"import dioe.{name}" for name in PACKAGES if name != "__main__")
    modules, _ = loaded_after(code)
    assert "onnx_ir" in modules
    assert modules.isdisjoint({"torch", "onnxruntime", "openvino"})


def test_plugins_import_nothing_heavy_before_they_are_probed() -> None:
    code = """
import importlib.metadata
points = [p for p in importlib.metadata.entry_points(group="dioe.backends")
          if p.value.startswith("dioe_")]
assert len(points) >= 3
names = [backend.name for point in points for backend in point.load()()]
assert {"onnxruntime", "openvino", "reference"} <= set(names)
"""
    modules, _ = loaded_after(code)
    assert modules.isdisjoint({"torch", "onnxruntime", "openvino"})


def test_the_direction_of_imports() -> None:
    """The contracts of pyproject.toml, as import-linter checks them."""
    pytest.importorskip("importlinter")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_has_its_place_in_the_layers() -> None:
    import tomllib

    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = {module.strip() for layer in layers for module in layer.split("|")}
    assert placed == {f"dioe.{name}" for name in PACKAGES} | {"dioe_inspect"}
