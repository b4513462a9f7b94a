"""Activation functions."""

from __future__ import annotations

import math
from typing import Any, Callable

import torch
import torch.nn.functional as f

from .core import Compute, Node, lowers
from .widening import UNSIGNED, roomy

_PLAIN: dict[str, Callable[..., torch.Tensor]] = {
    "HardSwish": f.hardswish,
    "Mish": f.mish,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softsign": f.softsign,
}


@lowers(*_PLAIN)
def _plain(node: Node) -> Compute:
    return _PLAIN[node.type]


@lowers("LeakyRelu")
def _leaky_relu(node: Node) -> Compute:
    alpha = node.attr("alpha", 0.01)
    return lambda x: f.leaky_relu(x, alpha)


@lowers("ThresholdedRelu", since=10)
def _thresholded_relu(node: Node) -> Compute:
    alpha = node.attr("alpha", 1.0)
    return lambda x: f.threshold(x, alpha, 0.0)


@lowers("Elu")
def _elu(node: Node) -> Compute:
    alpha = node.attr("alpha", 1.0)
    return lambda x: f.elu(x, alpha)


_SELU = (1.6732632423543772, 1.0507009873554805)


@lowers("Selu")
def _selu(node: Node) -> Compute:
    old = node.version < 6
    alpha = node.attr("alpha", 1.6732 if old else _SELU[0])
    gamma = node.attr("gamma", 1.0507 if old else _SELU[1])
    if abs(alpha - _SELU[0]) + abs(gamma - _SELU[1]) < 1e-6:
        return f.selu
    return lambda x: f.elu(x, alpha) * gamma


@lowers("Celu", since=12)
def _celu(node: Node) -> Compute:
    alpha = node.attr("alpha", 1.0)
    return lambda x: f.celu(x, alpha)


@lowers("Gelu", since=20)
def _gelu(node: Node) -> Compute:
    if node.one_of("approximate", "none", ("none", "tanh")) == "none":
        return f.gelu
    if "approximate" in (f.gelu.__doc__ or ""):  # since torch 1.12
        return lambda x: f.gelu(x, approximate="tanh")
    root = math.sqrt(2 / math.pi)
    return lambda x: 0.5 * x * (1 + torch.tanh(root * (x + 0.044715 * x * x * x)))


@lowers("HardSigmoid")
def _hard_sigmoid(node: Node) -> Compute:
    alpha, beta = node.attr("alpha", 0.2), node.attr("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return f.hardsigmoid
    return lambda x: torch.clamp(x * alpha + beta, 0, 1)


@lowers("Softplus")
def _softplus(node: Node) -> Compute:
    # x + log1p(exp(-x)) is x to the last bit of a double from here on
    return lambda x: f.softplus(x, 1.0, 40.0)


@lowers("Swish", since=24)
def _swish(node: Node) -> Compute:
    alpha = node.attr("alpha", 1.0)
    return f.silu if alpha == 1 else lambda x: x * torch.sigmoid(x * alpha)


@lowers("SwiGLU", since=28)
def _swiglu(node: Node) -> Compute:
    swish = _swish(node)
    return lambda gate, x: swish(gate) * x


@lowers("Shrink", since=9)
def _shrink(node: Node) -> Compute:
    bias, limit = node.attr("bias", 0.0), node.attr("lambd", 0.5)

    def compute(x: torch.Tensor) -> torch.Tensor:
        if bias == limit and limit >= 0 and x.is_floating_point():
            return f.softshrink(x, limit)
        if bias == 0 and limit >= 0 and x.is_floating_point():
            return f.hardshrink(x, limit)
        wide = roomy(x) if x.dtype in UNSIGNED else x
        above = wide - bias
        above = torch.where(wide > limit, above, torch.zeros_like(above))
        return torch.where(wide < -limit, wide + bias, above).to(x.dtype)

    return compute


@lowers("PRelu", since=7)
def _prelu(node: Node) -> Compute:
    def compute(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        by_channel = slope.ndim == x.ndim - 1 and slope.numel() == slope.shape[0]
        if by_channel and x.is_floating_point():
            return f.prelu(x, slope.reshape(-1))
        if x.dtype in UNSIGNED:
            return x
        return torch.where(x < 0, x * slope, x)

    return compute


@lowers("PRelu")
def _old_prelu(node: Node) -> Compute:
    def compute(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        return f.prelu(x, slope.reshape(-1))

    return compute


# --- over an axis ------------------------------------------------------------------------------


def _hardmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.zeros_like(x).scatter_(axis, torch.argmax(x, axis, keepdim=True), 1)


_OVER_AXIS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "Hardmax": _hardmax,
    "LogSoftmax": torch.log_softmax,
    "Softmax": torch.softmax,
}


@lowers(*_OVER_AXIS, since=13, lowered=False)  # large inputs in bf16 lose all that matters
def _over_axis(node: Node) -> Compute:
    fn, axis = _OVER_AXIS[node.type], node.attr("axis", -1)
    return lambda x: fn(x, axis)


@lowers(*_OVER_AXIS, lowered=False)
def _over_last_axes(node: Node) -> Compute:
    fn, axis = _OVER_AXIS[node.type], node.attr("axis", 1)

    def compute(x: torch.Tensor) -> Any:
        if axis in (-1, x.ndim - 1):
            return fn(x, -1)
        if axis == x.ndim:  # one row an element
            return fn(x.unsqueeze(-1), -1).squeeze(-1)
        return fn(x.flatten(axis), -1).reshape(x.shape)

    return compute
