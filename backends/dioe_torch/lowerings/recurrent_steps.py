"""RNN, GRU and LSTM step by step: what torch's fused kernels don't have."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
from torch.nn import functional

from .core import Node, Unsupported

Activation = Callable[[torch.Tensor], torch.Tensor]

_ACTIVATIONS: dict[str, tuple[tuple[float | None, ...], Callable[..., torch.Tensor]]] = {
    "affine": ((None, None), lambda x, a, b: a * x + b),
    "elu": ((1.0,), functional.elu),
    "hardsigmoid": ((0.2, 0.5), lambda x, a, b: (a * x + b).clamp(0.0, 1.0)),
    "leakyrelu": ((0.01,), functional.leaky_relu),
    "relu": ((), torch.relu),
    "scaledtanh": ((None, None), lambda x, a, b: a * torch.tanh(b * x)),
    "sigmoid": ((), torch.sigmoid),
    "softplus": ((), functional.softplus),
    "softsign": ((), functional.softsign),
    "tanh": ((), torch.tanh),
    "thresholdedrelu": ((1.0,), lambda x, a: torch.where(x >= a, x, torch.zeros_like(x))),
}
"""By name: what it computes, and the defaults of alpha and beta, as many of them as it takes."""


def activations(node: Node, names: Sequence[str], count: int) -> list[Activation]:
    """Functions by their names in lower case; raises Unsupported unless there are ``count``."""
    if len(names) != count:
        raise Unsupported(f"{node.type} with {len(names)} activations instead of {count}")
    given = [iter(node.attr("activation_alpha", ())), iter(node.attr("activation_beta", ()))]
    return [_activation(node, name, given) for name in names]


def _activation(node: Node, name: str, given: Sequence[Any]) -> Activation:
    """One by its name; it takes the next alpha and beta if it has any."""
    if name not in _ACTIVATIONS:
        raise Unsupported(f"{node.type} with activation {name}")
    defaults, compute = _ACTIVATIONS[name]
    values = [next(values, default) for default, values in zip(defaults, given)]
    if None in values:
        raise Unsupported(f"{node.type} with activation {name} and no alpha and beta for it")
    return (lambda x: compute(x, *values)) if values else compute


class Steps:
    """How a layer computes. ``reversed``: of each direction, whether it runs backward.
    ``activations``: those of the first direction, then the second's."""

    type: str
    directions: int
    reversed: tuple[bool, ...]
    activations: list[Activation]
    clip: float
    coupled: bool
    after_reset: bool


def by_steps(
    layer: Steps,
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    states: Sequence[torch.Tensor],
    lengths: torch.Tensor | None,
    peepholes: torch.Tensor | None,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """All outputs ``[time, batch, directions, hidden]``, and the last states ``[directions, batch,
    hidden]``, of ``x`` ``[time, batch, input]``. The weights are by direction those of the input
    and of the state, and both their biases where there are any; gates in torch's order."""
    active = None
    if lengths is not None:
        ends = lengths.to(x.device).view(-1, 1)
        active = torch.arange(x.shape[0], device=x.device).view(-1, 1, 1) < ends
        # those of empty sequences: zeros, as ONNX Runtime leaves them
        states = [state.masked_fill(ends <= 0, 0.0) for state in states]
    each = len(weights) // layer.directions
    count = len(layer.activations) // layer.directions
    outputs, lasts = [], []
    for i, backward in enumerate(layer.reversed):
        w, r, *biases = weights[i * each : (i + 1) * each]
        # what the inputs contribute doesn't wait for the steps
        given = functional.linear(x, w, biases[0] if biases else None)
        step = _STEPS[layer.type](
            layer,
            layer.activations[i * count : (i + 1) * count],
            r,
            biases[1] if biases else None,
            None if peepholes is None else peepholes[i].chunk(3),
        )
        state = tuple(each[i] for each in states)
        ys: list[Any] = [None] * x.shape[0]
        for t in reversed(range(x.shape[0])) if backward else range(x.shape[0]):
            new = step(given[t], *state)
            ys[t] = new[0]
            if active is not None:
                ys[t] = torch.where(active[t], new[0], torch.zeros_like(new[0]))
                new = tuple(torch.where(active[t], after, old) for after, old in zip(new, state))
            state = new
        outputs.append(torch.stack(ys) if ys else given.new_zeros(0, *state[0].shape))
        lasts.append(state)
    return torch.stack(outputs, 2), [torch.stack(each) for each in zip(*lasts)]


def _clipped(layer: Steps, activation: Activation) -> Activation:
    limit = layer.clip
    return (lambda x: activation(x.clamp(-limit, limit))) if limit > 0 else activation


def _rnn_step(
    layer: Steps, activations: Sequence[Activation], r: torch.Tensor, bias: Any, _: Any
) -> Callable[..., Any]:
    f = _clipped(layer, activations[0])

    def step(given: torch.Tensor, h: torch.Tensor) -> Any:
        return (f(given + functional.linear(h, r, bias)),)

    return step


def _gru_step(
    layer: Steps, activations: Sequence[Activation], r: torch.Tensor, bias: Any, _: Any
) -> Callable[..., Any]:
    f, g = (_clipped(layer, activation) for activation in activations)
    size = r.shape[1]
    gates, hidden = r[: 2 * size], r[2 * size :]
    gate_bias, hidden_bias = (None, None) if bias is None else bias.split(2 * size)

    def step(given: torch.Tensor, h: torch.Tensor) -> Any:
        reset, update = f(given[:, : 2 * size] + functional.linear(h, gates, gate_bias)).chunk(2, 1)
        if layer.after_reset:
            carried = reset * functional.linear(h, hidden, hidden_bias)
        else:
            carried = functional.linear(reset * h, hidden, hidden_bias)
        new = g(given[:, 2 * size :] + carried)
        return (new + update * (h - new),)

    return step


def _lstm_step(
    layer: Steps, activations: Sequence[Activation], r: torch.Tensor, bias: Any, peepholes: Any
) -> Callable[..., Any]:
    f, g = (_clipped(layer, activation) for activation in activations[:2])
    last = activations[2]  # ONNX Runtime doesn't clip what it gets

    def step(given: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        gates = given + functional.linear(h, r, bias)
        enter, forget, cell, out = gates.chunk(4, 1)
        if peepholes is not None:
            enter, forget = enter + peepholes[0] * c, forget + peepholes[2] * c
        enter = f(enter)
        forget = 1 - enter if layer.coupled else f(forget)
        c = forget * c + enter * g(cell)
        if peepholes is not None:
            out = out + peepholes[1] * c
        return f(out) * last(c), c

    return step


_STEPS = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}
