"""The wheel holds what it should, and its dependencies are what the code imports."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dioe

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {
    "dioe": ROOT / "dioe",
    "dioe_cambricon": ROOT / "backends/dioe_cambricon",
    "dioe_cuda": ROOT / "backends/dioe_cuda",
    "dioe_null": ROOT / "backends/dioe_null",
    "dioe_onnxruntime": ROOT / "backends/dioe_onnxruntime",
    "dioe_openvino": ROOT / "backends/dioe_openvino",
    "dioe_reference": ROOT / "backends/dioe_reference",
    "dioe_torch": ROOT / "backends/dioe_torch",
    "dioe_inspect": ROOT / "tools/dioe_inspect",
}
PARTS = {"pydantic": "pydantic-core", "onnx": "protobuf"}  # come with a dependency, by its pin


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel that hatchling builds from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
        text=True,
    )
    (path,) = folder.iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def sources() -> set[str]:
    """Every file below the packages, under the name it has in the wheel."""
    return {
        f"{name}/{path.relative_to(folder)}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_every_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    for name in PACKAGES:
        assert {f"{name}/__init__.py", f"{name}/py.typed"} <= names
    assert sources() <= names
    configs = {
        f"dioe/hwconfigs/{path.relative_to(ROOT / 'hwconfigs')}"
        for path in (ROOT / "hwconfigs").rglob("*")
        if path.is_file()
    }
    assert {name for name in names if name.startswith("dioe/hwconfigs/")} == configs
    assert any(name.endswith(".yaml") for name in configs)


def test_the_catalogue_works_from_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = """
from dioe.hardware import catalogue, pool_from
print(catalogue.folder())
print(*(descriptor.id for descriptor in catalogue.descriptors()))
print(*(device.id for device in pool_from("server-a100").devices))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    folder, names, devices = done.stdout.splitlines()
    assert Path(folder) == tmp_path / "dioe/hwconfigs"
    shipped = (ROOT / "hwconfigs/devices").glob("*.yaml")
    assert set(names.split()) == {path.stem for path in shipped}
    assert devices.split() == ["cpu", "gpu:0", "gpu:1"]


def test_lists_of_known_failures(wheel: zipfile.ZipFile) -> None:
    """One for each backend that computes values, and for each provider that the suite is run on."""
    assert {name for name in wheel.namelist() if "known_failures" in name} == {
        "dioe/testing/known_failures.py",
        "dioe_onnxruntime/known_failures.txt",
        "dioe_onnxruntime/known_failures.webgpu.txt",
        "dioe_openvino/known_failures.txt",
        "dioe_reference/known_failures.txt",
        "dioe_torch/known_failures.inductor.txt",
        "dioe_torch/known_failures.txt",
    }


def test_no_tests_weights_or_leftovers(wheel: zipfile.ZipFile) -> None:
    unwanted = re.compile(r"(^|/)(tests?|benchmarks|__pycache__)/|\.(pyc|onnx|data|npy)$")
    assert [name for name in wheel.namelist() if unwanted.search(name)] == []
    assert sum(info.file_size for info in wheel.infolist()) < 5 * 2**20


def metadata(wheel: zipfile.ZipFile, file: str) -> str:
    (name,) = (n for n in wheel.namelist() if n.endswith(f".dist-info/{file}"))
    return wheel.read(name).decode()


def test_entry_points(wheel: zipfile.ZipFile) -> None:
    lines = metadata(wheel, "entry_points.txt").split("\n")
    points = [line for line in lines if "=" in line]
    assert sorted(points) == [
        "cambricon = dioe_cambricon:backends",
        "cuda = dioe_cuda:backends",
        "dioe = dioe.cli:main",
        "dioe_conformance = dioe.testing.entry",
        "null = dioe_null:backends",
        "onnxruntime = dioe_onnxruntime:backends",
        "openvino = dioe_openvino:backends",
        "reference = dioe_reference:backends",
        "torch = dioe_torch:backends",
    ]
    assert sorted(line for line in lines if line.startswith("[")) == [
        "[console_scripts]",
        "[dioe.backends]",
        "[pytest11]",
    ]


def test_licence_and_metadata(wheel: zipfile.ZipFile) -> None:
    assert metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in metadata(wheel, "licenses/LICENSE")
    text = metadata(wheel, "METADATA")
    assert "\nLicense-Expression: Apache-2.0\n" in text
    assert "\nRequires-Python: >=3.11\n" in text
    assert f"\nVersion: {PROJECT['version']}\n" in text
    assert (ROOT / "README.md").read_text(encoding="utf-8").strip() in text


def test_the_version(wheel: zipfile.ZipFile) -> None:
    assert dioe.__version__ == PROJECT["version"]
    assert f"dioe-{dioe.__version__}.dist-info/METADATA" in wheel.namelist()


def normalised(requirement: str) -> str:
    """Name of the distribution in a requirement, as the package index writes it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def imported_modules() -> dict[str, set[str]]:
    """Third-party top-level modules that the code of the wheel imports, with the files that do."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in PACKAGES.values() for path in folder.rglob("*.py")):
        modules = []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.append(node.module)
        for top in {module.partition(".")[0] for module in modules}:
            if top not in sys.stdlib_module_names and top not in PACKAGES:
                found.setdefault(top, set()).add(str(path.relative_to(ROOT)))
    return found


def test_dependencies_are_what_is_imported() -> None:
    declared = {normalised(requirement) for requirement in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    demo = {normalised(requirement) for requirement in extras["demo"]}
    testing = {normalised(requirement) for requirement in extras["testing"]}
    homes = importlib.metadata.packages_distributions()
    used: set[str] = set()
    for module, files in imported_modules().items():
        # a namespace such as google belongs to several distributions
        names = {normalised(name) for name in homes.get(module, ())}
        of_kit = all(file.startswith("dioe/testing/") for file in files)
        direct = names & (declared | demo | (testing if of_kit else set()))
        part_of = {owner for owner, part in PARTS.items() if part in names & requires(owner)}
        assert direct | part_of, f"no dependency provides {module}, imported in {sorted(files)}"
        used |= direct
    assert declared == used & declared
    assert testing <= used


def requires(distribution: str) -> set[str]:
    """What a distribution itself depends on."""
    return {normalised(each) for each in importlib.metadata.requires(distribution) or ()}


def test_constraints_pin_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    pinned = {normalised(name) for name in pins}
    required = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["demo"]]
    assert {normalised(requirement) for requirement in required} <= pinned
    assert pins["torch"].startswith("2.13.0")
