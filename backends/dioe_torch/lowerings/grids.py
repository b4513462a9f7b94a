"""Tensors sampled at positions that another tensor has, and such positions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

from .core import Compute, Node, lowers

_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}


@lowers("GridSample", since=16, lowered=False)
def _grid_sample(node: Node) -> Compute:
    default = "bilinear" if node.version < 20 else "linear"
    mode = _MODES[node.one_of("mode", default, tuple(_MODES))]
    padding = node.one_of("padding_mode", "zeros", ("zeros", "border", "reflection"))
    corners = node.flag("align_corners")

    def compute(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        if not dtype.is_floating_point:
            x = x.to(torch.float32 if x.element_size() < 4 else torch.float64)
        grid = grid.to(x.dtype)
        line = x.ndim == 3
        if line:  # as an image of one row, with every position in its middle
            x = x.unsqueeze(2)
            grid = F.pad(grid, (0, 1)).unsqueeze(1)
        y = F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=corners)
        y = y.squeeze(2) if line else y
        return y if y.dtype == dtype else y.to(dtype)

    return compute


@lowers("AffineGrid", since=20, host=(1,), lowered=False)
def _affine_grid(node: Node) -> Compute:
    corners = node.flag("align_corners")

    def compute(theta: torch.Tensor, size: Any) -> torch.Tensor:
        return F.affine_grid(theta, size.tolist(), align_corners=corners)

    return compute
