"""A sample backend for DIOE: a handful of ONNX ops in numpy."""

from __future__ import annotations

from dioe.types import Backend


def backends() -> list[Backend]:
    """The backends of this plugin. Called by every user of DIOE, so nothing heavy is imported."""
    from dioe_numpy.backend import NumpyBackend

    return [NumpyBackend()]
