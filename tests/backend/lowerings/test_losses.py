"""Losses and optimisers, by their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from dioe.types import Array
from tests.backend.lowerings import single

RNG = np.random.default_rng(10)
TRAINING = "ai.onnx.preview.training"


def expected(
    logs: Array, target: Array, weight: Array | None, reduction: str, ignored: int | None
) -> Array:
    kept = np.ones(target.shape, bool) if ignored is None else target != ignored
    classes = np.where(kept, target, 0)
    picked = np.take_along_axis(logs, classes[:, None], 1).squeeze(1)
    factors = (np.ones(target.shape) if weight is None else weight[classes]) * kept
    losses = -picked * factors
    if reduction == "none":
        return np.asarray(losses, np.float32)
    total = losses.sum()
    return np.asarray(total if reduction == "sum" else total / factors.sum(), np.float32)


@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 4), (2, 5, 3, 4), (2, 5, 2, 3, 2)])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("ignored", [None, 2, -1])
def test_likelihood(
    shape: tuple[int, ...], reduction: str, weighted: bool, ignored: int | None
) -> None:
    scores = RNG.normal(size=shape).astype(np.float32)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    target = RNG.integers(0, 5, (shape[0], *shape[2:])).astype(np.int32)
    if ignored is not None:
        target.reshape(-1)[::3] = ignored
    weight = RNG.uniform(0.1, 1, 5).astype(np.float32) if weighted else None
    attributes: dict[str, object] = {"reduction": reduction}
    if ignored is not None:
        attributes["ignore_index"] = ignored
    want = expected(logs, target, weight, reduction, ignored)
    (got,) = single.run("NegativeLogLikelihoodLoss", [logs, target, weight], 13, attributes)
    single.agree(got, want, rtol=1e-4, atol=1e-5)
    loss, logarithms = single.run(
        "SoftmaxCrossEntropyLoss", [scores, target, weight], 13, attributes, n_outputs=2
    )
    single.agree(loss, want, rtol=1e-4, atol=1e-5)
    single.agree(logarithms, logs, rtol=1e-4, atol=1e-5)
    (alone,) = single.run("SoftmaxCrossEntropyLoss", [scores, target, weight], 13, attributes)
    single.agree(alone, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [0, 3])
def test_optimisers_of_several_tensors(count: int) -> None:
    rate, times = np.asarray(0.1, np.float32), np.asarray(count)
    first = [RNG.normal(size=(2, 3)).astype(np.float32) for _ in range(4)]
    second = [RNG.normal(size=4).astype(np.float32) for _ in range(4)]
    first[3], second[3] = np.abs(first[3]), np.abs(second[3])
    pairs = [tensor for pair in zip(first, second, strict=True) for tensor in pair]
    attributes = {"norm_coefficient": 0.01, "alpha": 0.8, "beta": 0.7, "norm_coefficient_post": 0.2}
    got = single.run("Adam", [rate, times, *pairs], 1, attributes, 6, domain=TRAINING)
    for i, (x, gradient, mean, squares) in enumerate((first, second)):
        grown = 0.01 * x + gradient
        new_mean = 0.8 * mean + 0.2 * grown
        new_squares = 0.7 * squares + 0.3 * grown**2
        step = 0.1 * np.sqrt(1 - 0.7**count) / (1 - 0.8**count) if count else 0.1
        new_x = 0.8 * (x - step * new_mean / (np.sqrt(new_squares) + 1e-6))
        for result, want in zip(got[i::2], (new_x, new_mean, new_squares), strict=True):
            single.agree(result, want.astype(np.float32), rtol=1e-4)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("mode", ["standard", "nesterov"])
def test_momentum(count: int, mode: str) -> None:
    x, gradient, momentum = RNG.normal(size=(3, 5)).astype(np.float32)
    attributes = {"norm_coefficient": 0.1, "alpha": 0.9, "beta": 0.3, "mode": mode}
    arrays = [np.asarray(0.5, np.float32), np.asarray(count), x, gradient, momentum]
    got = single.run("Momentum", arrays, 1, attributes, 2, domain=TRAINING)
    grown = 0.1 * x + gradient
    momentum = 0.9 * momentum + (0.3 if count else 1) * grown
    step = grown + 0.9 * momentum if mode == "nesterov" else momentum
    single.agree(got[0], (x - 0.5 * step).astype(np.float32), rtol=1e-4)
    single.agree(got[1], momentum.astype(np.float32), rtol=1e-4)


def test_adagrad() -> None:
    x, gradient, squares = np.abs(RNG.normal(size=(3, 5))).astype(np.float32)
    attributes = {"norm_coefficient": 0.1, "decay_factor": 0.2}
    arrays = [np.asarray(0.5, np.float32), np.asarray(3), x, gradient, squares]
    got = single.run("Adagrad", arrays, 1, attributes, 2, domain=TRAINING)
    grown = 0.1 * x + gradient
    squares = squares + grown**2
    want = x - 0.5 / 1.6 * grown / (np.sqrt(squares) + 1e-6)
    single.agree(got[0], want.astype(np.float32), rtol=1e-4)
    single.agree(got[1], squares.astype(np.float32))
