"""The plugin guide shows code of the sample plugin, and commands that are run in CI."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dioe import types
from dioe.registry.reports import checked_devices

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
WALK, _, REST = GUIDE.partition("## Devices off the host")
DEVICES = re.findall(r"^```python\n(.*?)^```$", REST, re.MULTILINE | re.DOTALL)
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


def of_the_guide() -> dict[str, Any]:
    """What the code about devices off the host defines."""
    names: dict[str, Any] = {name: getattr(types, name) for name in types.__all__}
    names["Sequence"] = Sequence
    for code in DEVICES:
        exec(code, names)
    return names


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = of_the_guide()["probe"]
    monkeypatch.setitem(sys.modules, "foo", None)
    (absent,) = checked_devices(probe(None))
    assert absent.state is types.DeviceState.ABSENT
    assert "pip install" in absent.reason
    devices = [
        SimpleNamespace(driver=driver, name="Foo", pci_address=f"0000:0{i}:00.0", memory_bytes=8)
        for i, driver in enumerate([(1, 3), (1, 4)])
    ]
    monkeypatch.setitem(sys.modules, "foo", SimpleNamespace(devices=lambda: devices))
    old, new = checked_devices(probe(None))
    assert (old.state, new.state) == (types.DeviceState.ERROR, types.DeviceState.PRESENT)
    assert "1.4 is needed" in old.reason
    assert new.id == "npu:1"


def test_the_buffer_is_one() -> None:
    spec = types.TensorSpec("x", np.dtype(np.float32), (2, 3))
    buffer = of_the_guide()["FooBuffer"]("npu:0", spec, object())
    assert isinstance(buffer, types.Buffer)
    with pytest.raises(types.BackendError):
        buffer.numpy()
