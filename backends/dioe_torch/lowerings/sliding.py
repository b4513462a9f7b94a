"""How windows slide over images: what convolutions and pools share."""

from __future__ import annotations

from typing import Sequence

import torch
from torch.nn import functional

from .core import Node, Unsupported

AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


class Sliding:
    """Strides, dilations and pads of an op, one a spatial axis; ``(1,)`` and ``(0,)`` stand for any
    number of axes where nothing says how many. ``kernel`` is None where only a run tells it.

    ``auto`` is ``SAME_UPPER`` or ``SAME_LOWER`` where pads follow from the image's size, else "".
    """

    def __init__(self, node: Node, kernel: Sequence[int] | None = None) -> None:
        found = node.ints("kernel_shape", kernel)
        self.kernel = None if found is None else tuple(found)
        pads = node.ints("pads")
        given = self.kernel or node.ints("strides") or node.ints("dilations") or pads[::2]
        self.rank = len(given) or None
        some = self.rank or 1
        self.strides = node.ints("strides") or (1,) * some
        self.dilations = node.ints("dilations") or (1,) * some
        auto = node.one_of("auto_pad", "NOTSET", AUTO_PADS) or "NOTSET"
        self.auto = auto if auto.startswith("SAME") else ""
        pads = pads if auto == "NOTSET" and pads else (0,) * 2 * some
        if not len(pads) == 2 * len(self.strides) == 2 * len(self.dilations):
            raise Unsupported(f"{node.type} with attributes of different ranks")
        self.begins, self.ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
        if self.auto and self.kernel and set(self.strides) == {1}:
            # such windows need the same pads in every image
            self.begins, self.ends = self.pads_of((1,) * some, self.kernel)
            self.auto = ""

    @property
    def symmetric(self) -> bool:
        """True if torch can pad by itself: equal pads at both ends, known and not negative."""
        return not self.auto and self.begins == self.ends and min(self.begins) >= 0

    def pads_of(
        self, sizes: Sequence[int], kernel: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Pads before and after each axis of an image of ``sizes``."""
        if not self.auto:
            return self.begins, self.ends
        begins, ends = [], []
        for axis, size in enumerate(sizes):
            stride = self.strides[axis % len(self.strides)]
            dilation = self.dilations[axis % len(self.dilations)]
            extent = (kernel[axis] - 1) * dilation + 1
            total = max(0, (-(-size // stride) - 1) * stride + extent - size)
            small, large = total // 2, total - total // 2
            begins.append(small if self.auto == "SAME_UPPER" else large)
            ends.append(large if self.auto == "SAME_UPPER" else small)
        return tuple(begins), tuple(ends)


def pad(
    x: torch.Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0
) -> torch.Tensor:
    """``x`` with pads around its last axes; negative ones crop."""
    if not any(begins) and not any(ends):
        return x
    around = [each for pair in zip(reversed(begins), reversed(ends)) for each in pair]
    return functional.pad(x, around, value=value)
