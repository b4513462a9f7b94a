"""The plugin guide shows code of the sample plugin, and commands that are run in CI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
WALK, _, WORKERS = GUIDE.partition("## Workers")
SAMPLE = ROOT / "docs/examples/numpy_backend"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", WALK, re.MULTILINE | re.DOTALL)
SOURCES = {
    path.relative_to(SAMPLE): path.read_text(encoding="utf-8")
    for path in SAMPLE.rglob("*")
    if path.suffix in {".py", ".toml"} and "build" not in path.parts
}


@pytest.mark.parametrize(
    "code", [code for language, code in BLOCKS if language in ("python", "toml")]
)
def test_code_is_that_of_the_sample(code: str) -> None:
    assert any(code in source for source in SOURCES.values()), code


def test_there_is_code_of_every_file() -> None:
    blocks = [code for language, code in BLOCKS if language in ("python", "toml")]
    shown = {str(p) for p, source in SOURCES.items() if any(code in source for code in blocks)}
    assert shown == {str(path) for path in SOURCES}


def test_files_named_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", GUIDE):
        assert (ROOT / "docs" / link).exists(), link


def test_sections_and_options_are_those_of_the_suite() -> None:
    suite = ROOT / "dioe/testing/conformance"
    sections = {path.stem.removeprefix("test_") for path in suite.glob("test_*.py")}
    assert set(re.findall(r"^\| `(\w+)` \| ", WALK, re.MULTILINE)) == sections
    plugin = (ROOT / "dioe/testing/plugin.py").read_text(encoding="utf-8")
    options = set(re.findall(r'"(--[\w-]+)"', plugin)) - {"--backend", "--help", "--version"}
    assert set(re.findall(r"^\| `(--[\w-]+)", WALK, re.MULTILINE)) == options


def test_the_number_of_cases() -> None:
    from dioe.testing import nodes

    assert f"{len(nodes.SUBSET)} of ONNX's own node cases" in WALK
