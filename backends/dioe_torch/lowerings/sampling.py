"""Random numbers. With a seed every run draws the same ones, else torch's own generator does."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .core import Compute, Node, lowers, torch_dtype


def generator(seed: float | None, device: torch.device) -> torch.Generator | None:
    """What draws the numbers of an op with that seed; None for torch's own."""
    if seed is None:
        return None
    return torch.Generator(device=device).manual_seed(int(np.float32(seed).view(np.uint32)))


@lowers("RandomNormal", "RandomUniform", lowered=False, pure=False)
def _random(node: Node) -> Compute:
    shape, fill = node.ints("shape"), _filling(node)
    dtype = torch_dtype(node.attr("dtype", 1))
    return lambda: fill(torch.empty(shape, dtype=dtype, device=node.device))


@lowers("RandomNormalLike", "RandomUniformLike", lowered=False, pure=False)
def _random_like(node: Node) -> Compute:
    given, fill = node.attr("dtype", None), _filling(node)
    dtype = None if given is None else torch_dtype(given)
    return lambda x: fill(torch.empty(x.shape, dtype=dtype or x.dtype, device=x.device))


def _filling(node: Node) -> Compute:
    seed = node.attr("seed", None)
    if node.type.startswith("RandomNormal"):
        mean, scale = node.attr("mean", 0.0), node.attr("scale", 1.0)
        return lambda x: x.normal_(mean, scale, generator=generator(seed, x.device))
    low, high = node.attr("low", 0.0), node.attr("high", 1.0)
    return lambda x: x.uniform_(low, high, generator=generator(seed, x.device))


@lowers("Bernoulli", since=15, lowered=False, pure=False)
def _bernoulli(node: Node) -> Compute:
    seed, given = node.attr("seed", None), node.attr("dtype", None)
    dtype = None if given is None else torch_dtype(given)

    def compute(x: torch.Tensor) -> Any:
        drawn = torch.bernoulli(x, generator=generator(seed, x.device))
        return drawn if dtype is None else drawn.to(dtype)

    return compute


@lowers("Multinomial", since=7, lowered=False, pure=False)
def _multinomial(node: Node) -> Compute:
    seed, count = node.attr("seed", None), node.attr("sample_size", 1)
    dtype = torch_dtype(node.attr("dtype", 6))

    def compute(x: torch.Tensor) -> Any:
        chances = torch.softmax(x if x.dtype == torch.float64 else x.float(), -1)
        drawn = torch.multinomial(chances, count, True, generator=generator(seed, x.device))
        return drawn.to(dtype)

    return compute
