"""Lowerings of ONNX operators to torch, and what runs programs of them.

Imports torch and numpy only, in the syntax of Python 3.7; loadable by its path under any name.
``core`` has the data (Program, Op, Constant) and the table, ``link`` the executor; every other
module lowers one family of operators.
"""

from __future__ import annotations

from . import (  # noqa: F401 - they register themselves
    activation,
    attention,
    casts,
    control,
    convolution,
    detection,
    elementwise,
    grids,
    indexing,
    linear,
    logic,
    losses,
    machine_learning,
    making,
    normalization,
    padding,
    pooling,
    quantization,
    ranking,
    recurrent,
    reductions,
    resampling,
    resizing,
    sampling,
    sequences,
    shapes,
    spectral,
)
from .core import Constant, Op, Program, Unsupported, find, op_types, to_constant, to_tensor
from .fold import fold
from .link import Linked, OpFailed, check, link

__all__ = [
    "Constant",
    "Linked",
    "Op",
    "OpFailed",
    "Program",
    "Unsupported",
    "check",
    "find",
    "fold",
    "link",
    "op_types",
    "to_constant",
    "to_tensor",
]
