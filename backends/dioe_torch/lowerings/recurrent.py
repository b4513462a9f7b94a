"""RNN, GRU and LSTM: by torch's fused kernels where they compute the same, else step by step."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
from torch.nn import functional

from .core import Compute, Node, Unsupported, lowers

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

_GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}
"""Where the gates stand in ONNX's weights, in torch's order (GRU: rzh, LSTM: ifco)."""

_USUAL = {"RNN": ["tanh"], "GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}

_FUSED: dict[tuple[str, ...], Callable[..., Any]] = {
    ("RNN", "tanh"): torch.rnn_tanh,
    ("RNN", "relu"): torch.rnn_relu,
    ("GRU", "sigmoid", "tanh"): torch.gru,
    ("LSTM", "sigmoid", "tanh", "tanh"): torch.lstm,
}
"""torch's kernels by the op and its activations."""


class _Layer:
    """The attributes of a recurrent op."""

    def __init__(self, node: Node) -> None:
        self.type, self.n_outputs = node.type, node.n_outputs
        direction = node.one_of("direction", "forward", ("forward", "reverse", "bidirectional"))
        self.reversed = {"forward": (False,), "reverse": (True,)}.get(direction, (False, True))
        self.directions = len(self.reversed)
        self.batch_first = node.flag("layout")
        self.clip = float(node.attr("clip", 0.0))
        self.coupled = node.flag("input_forget")
        self.after_reset = node.flag("linear_before_reset")
        self.wants = [node.has_output(i) for i in range(node.n_outputs)]
        usual = _USUAL[node.type] * self.directions
        names = [str(_text(name)).lower() for name in node.attr("activations", usual)]
        self.activations = _activations(node, names, len(usual))
        self.kernel = None
        count = len(_USUAL[node.type])
        if names[:count] == names[-count:] and not (
            self.clip > 0
            or self.coupled
            or node.has_input(7)
            or (node.type == "GRU" and not self.after_reset)
        ):
            self.kernel = _FUSED.get((node.type, *names[:count]))
        node.once(self.prepared, 1, 2, 3)

    def prepared(
        self, w: torch.Tensor, r: torch.Tensor, b: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        """The weights as torch takes them: by direction those of the input and of the state, and
        both their biases where there are any."""
        weights = self.in_order(w, r, b)
        cudnn: Any = torch.backends.cudnn
        if self.kernel is not None and w.is_cuda and cudnn.is_acceptable(w):
            # cuDNN wants them side by side, else it copies them in every run: as nn.LSTM does it
            torch._cudnn_rnn_flatten_weight(
                weights, len(weights) // self.directions, w.shape[2],
                cudnn.rnn.get_cudnn_mode(self.kernel.__name__.upper()), r.shape[2], 0, 1,
                self.batch_first, self.directions == 2,
            )  # fmt: skip
        return tuple(weights)

    def in_order(
        self, w: torch.Tensor, r: torch.Tensor, b: torch.Tensor | None
    ) -> list[torch.Tensor]:
        """As ``prepared``."""
        found = []
        for i in range(self.directions):
            parts = [w[i], r[i]] if b is None else [w[i], r[i], *b[i].chunk(2)]
            for part in parts:
                gates = part.chunk(len(_GATES[self.type]))
                found.append(torch.cat([gates[gate] for gate in _GATES[self.type]]))
        return found

    def weights(self, w: Any, r: torch.Tensor, b: torch.Tensor | None) -> Sequence[torch.Tensor]:
        """As ``prepared``, from what a run is given."""
        return w if isinstance(w, (tuple, list)) else self.in_order(w, r, b)

    def state(self, state: torch.Tensor) -> torch.Tensor:
        """A state as torch takes it: [directions, batch, hidden]."""
        return state.transpose(0, 1).contiguous() if self.batch_first else state

    def results(
        self, y: torch.Tensor, states: Sequence[torch.Tensor]
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The op's outputs: of ``y`` [time, batch, directions, hidden] or batch first, and the last
        states [directions, batch, hidden]."""
        if self.batch_first:
            states = [state.transpose(0, 1) for state in states]
        else:
            y = y.transpose(1, 2)
        return y if self.n_outputs == 1 else (y, *states)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _activations(node: Node, names: Sequence[str], count: int) -> list[Activation]:
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


@lowers("RNN", "GRU", "LSTM", host=(4,), lowered=False)  # errors add up step by step
def _recurrent(node: Node) -> Compute:
    layer = _Layer(node)

    def compute(
        x: torch.Tensor,
        w: Any,
        r: torch.Tensor,
        b: torch.Tensor | None = None,
        lengths: Any = None,
        h: torch.Tensor | None = None,
        c: torch.Tensor | None = None,
        peepholes: torch.Tensor | None = None,
    ) -> Any:
        weights = layer.weights(w, r, b)
        time, batch = x.shape[:2] if not layer.batch_first else (x.shape[1], x.shape[0])
        if lengths is not None and (lengths == time).all():
            lengths = None
        shape = (layer.directions, batch, weights[1].shape[1])
        states = [
            x.new_zeros(shape) if state is None else layer.state(state)
            for state in ([h, c] if layer.type == "LSTM" else [h])
        ]
        if layer.kernel is not None and lengths is None and time > 0:
            return _fused(layer, layer.kernel, x, weights, states)
        return _by_steps(layer, x, weights, states, lengths, peepholes)

    return compute


def _fused(
    layer: _Layer,
    kernel: Callable[..., Any],
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    states: Sequence[torch.Tensor],
) -> Any:
    axis = 1 if layer.batch_first else 0
    backward = layer.reversed == (True,)
    y, *last = kernel(
        x.flip(axis) if backward else x,
        states if layer.type == "LSTM" else states[0],
        weights,
        len(weights) > 2 * layer.directions,
        1,
        0.0,
        False,
        layer.directions == 2,
        layer.batch_first,
    )
    if backward and layer.wants[0]:
        y = y.flip(axis)
    return layer.results(y.view(*y.shape[:2], layer.directions, -1), last)


# --- step by step ------------------------------------------------------------------------------


def _by_steps(
    layer: _Layer,
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    states: Sequence[torch.Tensor],
    lengths: Any,
    peepholes: torch.Tensor | None,
) -> Any:
    if layer.batch_first:
        x = x.transpose(0, 1)
    active = None
    if lengths is not None:
        ends = torch.from_numpy(lengths).to(x.device).view(-1, 1)
        active = torch.arange(x.shape[0], device=x.device).view(-1, 1, 1) < ends
        # as ONNX Runtime: an empty sequence leaves zeros
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
    y = torch.stack(outputs, 2)
    if layer.batch_first:
        y = y.transpose(0, 1)
    return layer.results(y, [torch.stack(each) for each in zip(*lasts)])


def _clipped(layer: _Layer, activation: Activation) -> Activation:
    limit = layer.clip
    return (lambda x: activation(x.clamp(-limit, limit))) if limit > 0 else activation


def _rnn_step(
    layer: _Layer, activations: Sequence[Activation], r: torch.Tensor, bias: Any, _: Any
) -> Callable[..., Any]:
    f = _clipped(layer, activations[0])

    def step(given: torch.Tensor, h: torch.Tensor) -> Any:
        return (f(given + functional.linear(h, r, bias)),)

    return step


def _gru_step(
    layer: _Layer, activations: Sequence[Activation], r: torch.Tensor, bias: Any, _: Any
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
    layer: _Layer, activations: Sequence[Activation], r: torch.Tensor, bias: Any, peepholes: Any
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
