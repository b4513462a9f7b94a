"""Normalisation by mean and variance or by norms, and dropout."""

from __future__ import annotations

from typing import Any, Callable

import torch
import torch.nn.functional as f

from .core import Compute, Node, Unsupported, lowers, torch_dtype
from .sampling import generator

_HALVES = (torch.float16, torch.bfloat16)


def _epsilon(node: Node) -> float:
    return float(node.attr("epsilon", 1e-5))


def _by_channel(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``values`` of channels, to be broadcast over ``x`` (N x C x ...)."""
    return values.reshape((1, -1) + (1,) * (x.ndim - 2))


# --- batches -----------------------------------------------------------------------------------


@lowers("BatchNormalization", since=14)
def _batch_normalization(node: Node) -> Compute:
    return _batch_training(node, 3) if node.flag("training_mode") else _batch_inference(node)


@lowers("BatchNormalization")
def _old_batch_normalization(node: Node) -> Compute:
    given = any(node.has_output(i) for i in range(1, node.n_outputs))
    training = given and not node.flag("is_test")
    if not node.flag("spatial", True):
        if training:
            raise Unsupported("BatchNormalization in training that isn't spatial")
        return _batch_of_activations(node)
    return _batch_training(node, 5) if training else _batch_inference(node)


def _batch_inference(node: Node) -> Compute:
    epsilon = _epsilon(node)

    def compute(
        x: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
    ) -> Any:
        if scale.dtype != mean.dtype:
            scale, bias, mean, variance = [v.float() for v in (scale, bias, mean, variance)]
        if x.ndim == 1:  # of a single channel
            x = x.unsqueeze(1)
            return f.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon).squeeze(1)
        return f.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)

    if node.n_outputs == 1:
        return compute
    return lambda *args: (compute(*args),) + (None,) * (node.n_outputs - 1)


def _batch_of_activations(node: Node) -> Compute:
    epsilon = _epsilon(node)

    def compute(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        scale, bias, mean, variance = given
        return (x - mean) * (torch.rsqrt(variance + epsilon) * scale) + bias

    return compute


def _batch_training(node: Node, count: int) -> Compute:
    epsilon, momentum = _epsilon(node), node.attr("momentum", 0.9)

    def compute(
        x: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
    ) -> Any:
        wide = x.float() if x.dtype in _HALVES else x
        axes = [axis for axis in range(x.ndim) if axis != 1]
        now = torch.mean(wide, axes)
        spread = torch.mean(torch.square(wide - _by_channel(now, x)), axes)
        factor = scale * torch.rsqrt(spread + epsilon)
        y = (wide - _by_channel(now, x)) * _by_channel(factor, x) + _by_channel(bias, x)
        means = mean * momentum + now * (1 - momentum)
        variances = variance * momentum + spread * (1 - momentum)
        results = (
            y.to(x.dtype),
            means.to(mean.dtype),
            variances.to(variance.dtype),
            now.to(mean.dtype),
            spread.to(variance.dtype),
        )
        return results[0] if node.n_outputs == 1 else results[:count]

    return compute


# --- instances, groups, layers -----------------------------------------------------------------


@lowers("InstanceNormalization")
def _instance_normalization(node: Node) -> Compute:
    epsilon = _epsilon(node)

    def compute(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        # torch.nn.functional's refuses single elements, whose result is the bias
        return torch.instance_norm(x, scale, bias, None, None, True, 0.0, epsilon, False)

    return compute


@lowers("GroupNormalization", since=18)
def _group_normalization(node: Node) -> Compute:
    groups, epsilon = node.attr("num_groups"), _epsilon(node)
    by_group = node.version < 21

    def compute(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        if by_group:
            each = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
        return torch.group_norm(x, groups, scale, bias, epsilon)

    return compute


@lowers("LayerNormalization", since=17)
def _layer_normalization(node: Node) -> Compute:
    axis, epsilon = node.attr("axis", -1), _epsilon(node)
    stash = torch_dtype(node.attr("stash_type", 1))

    def compute(x: torch.Tensor, scale: torch.Tensor, bias: Any = None) -> torch.Tensor:
        shape = x.shape[axis:]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return f.layer_norm(x, shape, scale, bias, epsilon)
        y = f.layer_norm(x, shape, None, None, epsilon) * scale
        return y if bias is None else y + bias

    def compute_all(x: torch.Tensor, scale: torch.Tensor, bias: Any = None) -> Any:
        axes = _from(axis, x)
        wide = x.to(stash) if x.dtype in _HALVES else x
        mean = torch.mean(wide, axes, True)
        centred = wide - mean
        inverse = torch.rsqrt(torch.mean(torch.square(centred), axes, True) + epsilon)
        y = (centred * inverse).to(x.dtype) * scale
        return y if bias is None else y + bias, mean.to(stash), inverse.to(stash)

    if node.has_output(1) or node.has_output(2):
        return compute_all
    return compute if node.n_outputs == 1 else lambda *args: (compute(*args), None, None)


def _from(axis: int, x: torch.Tensor) -> list[int]:
    """``axis`` and all axes after it."""
    return list(range(axis % x.ndim, x.ndim))


@lowers("RMSNormalization", since=23)
def _rms_normalization(node: Node) -> Compute:
    axis, epsilon = node.attr("axis", -1), _epsilon(node)
    fused: Callable[..., torch.Tensor] | None = getattr(torch, "rms_norm", None)  # since torch 2.4

    def compute(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        if fused is not None and scale.shape == x.shape[axis:] and scale.dtype == x.dtype:
            return fused(x, scale.shape, scale, epsilon)
        wide = x.float() if x.dtype in _HALVES else x
        factor = torch.rsqrt(torch.mean(torch.square(wide), _from(axis, x), True) + epsilon)
        return ((wide * factor).to(x.dtype) * scale).to(scale.dtype)

    return compute


# --- others ------------------------------------------------------------------------------------


@lowers("LpNormalization")
def _lp_normalization(node: Node) -> Compute:
    axis, p = node.attr("axis", -1), node.attr("p", 2)

    def compute(x: torch.Tensor) -> Any:
        norm = torch.linalg.vector_norm(x, p, axis, True)
        return x / norm.masked_fill(norm == 0, 1)

    return compute


@lowers("LRN")
def _lrn(node: Node) -> Compute:
    size = node.attr("size")
    alpha, beta = node.attr("alpha", 1e-4), node.attr("beta", 0.75)
    bias = node.attr("bias", 1.0)
    pads = (0, 0, (size - 1) // 2, size // 2)

    def compute(x: torch.Tensor) -> Any:
        n, channels = x.shape[:2]
        wide = x.float() if x.dtype in _HALVES else x
        squares = f.pad(torch.square(wide).reshape(n, 1, channels, -1), pads)
        means = f.avg_pool2d(squares, (size, 1), 1).reshape(x.shape)
        return (wide / (bias + alpha * means) ** beta).to(x.dtype)

    return compute


@lowers("MeanVarianceNormalization", since=9)
def _mean_variance_normalization(node: Node) -> Compute:
    axes = node.ints("axes", (0, 2, 3))

    def compute(x: torch.Tensor) -> torch.Tensor:
        wide = x.float() if x.dtype in _HALVES else x
        centred = wide - torch.mean(wide, axes, True)
        deviation = torch.sqrt(torch.mean(torch.square(centred), axes, True))
        return (centred / (deviation + 1e-9)).to(x.dtype)

    return compute


# --- dropout -----------------------------------------------------------------------------------


@lowers("Dropout", pure=False)
def _old_dropout(node: Node) -> Compute:
    if node.flag("is_test"):
        return _dropped(node, lambda x: (x, None))
    drop, ratio = _drop(node), node.attr("ratio", 0.5)
    return _dropped(node, lambda x: drop(x, ratio))


@lowers("Dropout", since=7)
def _dropout_in_inference(node: Node) -> Compute:
    return _dropped(node, lambda x: (x, _everything(x)))


@lowers("Dropout", since=12, host=(1, 2), pure=False)
def _dropout(node: Node) -> Compute:
    drop = _drop(node)

    def compute(x: torch.Tensor, ratio: Any = None, training: Any = None) -> Any:
        part = 0.5 if ratio is None else float(ratio.reshape(()))
        if training is None or not training.any() or part == 0:
            return x, _everything(x)
        return drop(x, part)

    return _dropped(node, compute)


def _everything(x: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(x, dtype=torch.bool)


def _dropped(node: Node, compute: Callable[..., Any]) -> Compute:
    return compute if node.n_outputs > 1 else lambda *args: compute(*args)[0]


def _drop(node: Node) -> Callable[[torch.Tensor, float], Any]:
    seed = node.attr("seed", None)

    def drop(x: torch.Tensor, ratio: float) -> Any:
        chances = torch.empty(x.shape, device=x.device)
        mask = chances.uniform_(generator=generator(seed, x.device)) >= ratio
        return x * mask / (1 - ratio), mask

    return drop
