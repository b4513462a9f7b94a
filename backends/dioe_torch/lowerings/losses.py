"""Losses, and the optimisers of the training domain."""

from __future__ import annotations

from typing import Any, Callable

import torch
import torch.nn.functional as f

from .core import Compute, Node, lowers


def _likelihood(node: Node) -> Callable[..., torch.Tensor]:
    """The loss of log-probabilities (N x C x ...) for targets (N x ...)."""
    reduction = node.one_of("reduction", "mean", ("none", "sum", "mean"))
    ignored = node.attr("ignore_index", -100)  # torch's own; targets are never negative

    def compute(x: torch.Tensor, target: torch.Tensor, weight: Any = None) -> torch.Tensor:
        return f.nll_loss(x, target.long(), weight, ignore_index=ignored, reduction=reduction)

    return compute


@lowers("NegativeLogLikelihoodLoss", since=12)
def _negative_log_likelihood(node: Node) -> Compute:
    return _likelihood(node)


@lowers("SoftmaxCrossEntropyLoss", since=12)
def _softmax_cross_entropy(node: Node) -> Compute:
    likelihood = _likelihood(node)

    def compute(scores: torch.Tensor, target: torch.Tensor, weight: Any = None) -> Any:
        logarithms = torch.log_softmax(scores, 1)
        loss = likelihood(logarithms, target, weight)
        return loss if node.n_outputs == 1 else (loss, logarithms)

    return compute


# --- optimisers --------------------------------------------------------------------------------

_DOMAIN = "ai.onnx.preview.training"

Update = Callable[..., Any]
"""From learning rate, update count, a tensor, its gradient and its state: the new tensor and the
new state, as a list."""


def _over_tensors(update: Update, parts: int) -> Compute:
    """``update`` for each of several tensors, whose ``parts`` (tensor, gradient, state) come part
    by part."""

    def compute(rate: torch.Tensor, count: torch.Tensor, *inputs: torch.Tensor) -> Any:
        tensors = len(inputs) // parts
        found = [update(rate, count, *inputs[i::tensors]) for i in range(tensors)]
        return [value for part in zip(*found) for value in part]

    return compute


@lowers("Adagrad", domain=_DOMAIN, lowered=False)
def _adagrad(node: Node) -> Compute:
    norm, decay = node.attr("norm_coefficient", 0.0), node.attr("decay_factor", 0.0)
    epsilon = node.attr("epsilon", 1e-6)

    def update(rate: Any, count: Any, x: Any, gradient: Any, squares: Any) -> Any:
        gradient = norm * x + gradient
        squares = squares + gradient * gradient
        step = rate / (1 + count * decay)
        return [x - step * gradient / (torch.sqrt(squares) + epsilon), squares]

    return _over_tensors(update, 3)


@lowers("Adam", domain=_DOMAIN, lowered=False)
def _adam(node: Node) -> Compute:
    alpha, beta = node.attr("alpha", 0.9), node.attr("beta", 0.999)
    norm, after = node.attr("norm_coefficient", 0.0), node.attr("norm_coefficient_post", 0.0)
    epsilon = node.attr("epsilon", 1e-6)

    def update(rate: Any, count: Any, x: Any, gradient: Any, mean: Any, squares: Any) -> Any:
        gradient = norm * x + gradient
        mean = alpha * mean + (1 - alpha) * gradient
        squares = beta * squares + (1 - beta) * gradient * gradient
        times = count.to(rate.dtype)
        corrected = rate * torch.sqrt(1 - beta**times) / (1 - alpha**times)
        step = torch.where(count > 0, corrected, rate)
        x = x - step * mean / (torch.sqrt(squares) + epsilon)
        return [(1 - after) * x, mean, squares]

    return _over_tensors(update, 4)


@lowers("Momentum", domain=_DOMAIN, lowered=False)
def _momentum(node: Node) -> Compute:
    alpha, beta, norm = node.attr("alpha"), node.attr("beta"), node.attr("norm_coefficient")
    nesterov = node.one_of("mode", "", ("nesterov", "standard")) == "nesterov"

    def update(rate: Any, count: Any, x: Any, gradient: Any, momentum: Any) -> Any:
        gradient = norm * x + gradient
        momentum = alpha * momentum + torch.where(count > 0, beta * gradient, gradient)
        step = gradient + alpha * momentum if nesterov else momentum
        return [x - rate * step, momentum]

    return _over_tensors(update, 3)
