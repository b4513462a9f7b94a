"""Fourier transforms, and the windows and filters that go with them."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import torch

from .core import Compute, Node, lowers, torch_dtype

# --- transforms --------------------------------------------------------------------------------


@lowers("DFT", since=17, host=(1,), lowered=False)
def _dft_of_attribute(node: Node) -> Compute:
    transform = _dft(node)
    axis = int(node.attr("axis", 1))

    def compute(x: torch.Tensor, length: Any = None) -> torch.Tensor:
        return transform(x, length, axis)

    return compute


@lowers("DFT", since=20, host=(1, 2), lowered=False)
def _dft_of_input(node: Node) -> Compute:
    transform = _dft(node)

    def compute(x: torch.Tensor, length: Any = None, axis: Any = None) -> torch.Tensor:
        return transform(x, length, -2 if axis is None else int(axis))

    return compute


def _dft(node: Node) -> Callable[[torch.Tensor, Any, int], torch.Tensor]:
    """A transform of reals ``[..., 1]`` or complex numbers ``[..., 2]`` along an axis."""
    inverse, onesided = node.flag("inverse"), node.flag("onesided")

    def compute(x: torch.Tensor, length: Any, axis: int) -> torch.Tensor:
        values = _numbers(x)
        axis = axis + x.dim() if axis < 0 else axis
        size = None if length is None else int(length)
        found: torch.Tensor
        if inverse and onesided:
            found = torch.fft.irfft(values, size, axis).unsqueeze(-1)
            return found.to(x.dtype)
        if inverse:
            found = torch.fft.ifft(values, size, axis)
        elif onesided and not values.is_complex():
            found = torch.fft.rfft(values, size, axis)
        else:
            found = torch.fft.fft(values, size, axis)
            if onesided:
                found = found.narrow(axis, 0, found.shape[axis] // 2 + 1)
        return torch.view_as_real(found).to(x.dtype)

    return compute


def _numbers(x: torch.Tensor) -> torch.Tensor:
    """What ``[..., 1]`` or ``[..., 2]`` stands for; in float32 where torch transforms no less."""
    if x.dtype not in (torch.float32, torch.float64):
        x = x.float()
    if x.shape[-1] == 1:
        return x.squeeze(-1)
    return torch.view_as_complex(x.contiguous())


@lowers("STFT", since=17, host=(1, 3), lowered=False)
def _stft(node: Node) -> Compute:
    onesided = node.flag("onesided", True)

    def compute(
        x: torch.Tensor, step: Any, window: torch.Tensor | None = None, length: Any = None
    ) -> torch.Tensor:
        signal = _numbers(x) if x.dim() == 3 else x
        if length is not None:
            size = int(length)
        else:
            size = signal.shape[1] if window is None else window.shape[0]
        frames = signal.unfold(1, size, int(step))
        if window is not None:
            frames = frames * window.to(frames.dtype)
        if onesided and not frames.is_complex():
            found = torch.fft.rfft(frames)
        else:
            found = torch.fft.fft(frames)
            found = found[..., : size // 2 + 1] if onesided else found
        return torch.view_as_real(found).to(x.dtype)

    return compute


# --- windows and filters -----------------------------------------------------------------------

_WINDOWS: dict[str, tuple[float, ...]] = {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}
"""Coefficients of the cosines of 0, 1, 2 periods over the window."""


@lowers(*_WINDOWS, since=17, host=(0,), lowered=False)
def _window(node: Node) -> Compute:
    dtype = torch_dtype(int(node.attr("output_datatype", 1)))
    periodic = node.flag("periodic", True)
    coefficients = _WINDOWS[node.type]

    def compute(size: Any) -> torch.Tensor:
        count = int(size)
        angles = np.arange(count) * (2 * np.pi / max(1, count if periodic else count - 1))
        values = sum(c * np.cos(i * angles) for i, c in enumerate(coefficients))
        return torch.from_numpy(np.asarray(values)).to(dtype).to(node.device)

    return compute


@lowers("MelWeightMatrix", since=17, host=(0, 1, 2, 3, 4), lowered=False)
def _mel_weights(node: Node) -> Compute:
    dtype = torch_dtype(int(node.attr("output_datatype", 1)))

    def compute(mels: Any, length: Any, rate: Any, lowest: Any, highest: Any) -> torch.Tensor:
        count, size = int(mels), int(length)
        low, high = (2595 * np.log10(1 + float(edge) / 700) for edge in (lowest, highest))
        # as onnx's reference places them: bands are a little narrower than the range over count + 1
        edges = low + np.arange(count + 2) * (high - low) / (count + 2)
        hertz = 700 * (10 ** (edges / 2595) - 1)
        bins = ((size + 1) * hertz // int(rate)).astype(np.int64)
        found = np.zeros((size // 2 + 1, count))
        for i in range(count):
            left, center, right = bins[i : i + 3]
            if left == center:
                found[center, i] = 1
            else:
                rising = np.arange(left, center + 1)
                found[rising, i] = (rising - left) / (center - left)
            falling = np.arange(center, right)
            found[falling, i] = (right - falling) / max(1, right - center)
        return torch.from_numpy(found).to(dtype).to(node.device)

    return compute
