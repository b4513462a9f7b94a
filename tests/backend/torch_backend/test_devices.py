"""Torch's devices, found without importing torch where that can be."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from dioe_torch import devices
from dioe_torch.devices import _computed_by_torch, computed

PROBE = """
import sys
from dioe_torch import backends
for backend in backends():
    print(backend.name, backend.version, [(d.id, str(d.state)) for d in backend.probe()])
print(sorted(computed.value for computed in backends()[0].capabilities("cpu").computes))
assert "torch" not in sys.modules, "torch was imported"
"""


def test_a_cpu_build_is_told_without_importing_torch() -> None:
    import torch

    if torch.version.cuda or torch.version.hip or sys.platform == "darwin":
        pytest.skip("this build may have accelerators")
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"torch {torch.__version__} [('cpu', 'present')]")


def test_precisions_are_those_that_torch_itself_would_tell() -> None:
    assert computed("cpu") == _computed_by_torch()
    assert len(computed("cuda:0")) == 3


@pytest.mark.parametrize(
    ("text", "may"),
    [
        (
            "cuda: Optional[str] = None\nhip: Optional[str] = None\nxpu: Optional[str] = None\n",
            False,
        ),
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", True),
        ("cuda = None\nhip = '6.3'\n", True),
        ("cuda: Optional[str] = None\nxpu: Optional[str] = '2025'\n", True),
    ],
)
def test_builds_are_told_by_their_version_file(
    text: str, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version.py").write_text(text)
    if sys.platform == "darwin":
        pytest.skip("Apple's GPU is in every build")

    class Found:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Found())
    assert devices._may_have_accelerators() == may


def test_without_torch_the_host_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "missing", lambda: "torch is not installed")
    (cpu,) = devices.devices()
    assert (cpu.info.state, cpu.info.reason) == ("absent", "torch is not installed")


def test_the_docs_count_the_lowerings() -> None:
    from dioe_torch.lowerings import op_types

    count = sum(not domain for domain, _ in op_types())
    root = Path(__file__).parents[3]
    assert f"{count} types of ONNX's" in (root / "docs/torch.md").read_text()
    assert f"{count} op types" in (root / "CHANGELOG.md").read_text()
