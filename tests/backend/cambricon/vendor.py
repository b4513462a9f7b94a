"""A Python that Cambricon's packages seem to be installed in."""

from __future__ import annotations

import importlib.metadata
import sysconfig
import venv
from pathlib import Path

FAKES = Path(__file__).parent / "fakes"


def make_vendor_python(root: Path) -> Path:
    """The interpreter of a new virtual environment in ``root``, which finds the fakes, and the
    packages of this one for what they compute with."""
    venv.create(root, symlinks=True, with_pip=False)
    (site,) = (root / "lib").glob("python*/site-packages")
    (site / "fakes.pth").write_text(f"{FAKES}\n{sysconfig.get_path('purelib')}\n")
    return root / "bin" / "python"


def missing() -> str:
    """Why the plugin can't be found by its entry point; empty if it can."""
    points = importlib.metadata.entry_points(group="dioe.backends")
    if any(point.name == "cambricon" for point in points):
        return ""
    return "DIOE was installed before it had the Cambricon plugin: install it again"
