"""RNN, GRU and LSTM: by torch's fused kernels where they compute the same, else step by step."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np
import torch

from .core import Compute, Node, lowers
from .recurrent_steps import Steps, activations, by_steps

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


class _Layer(Steps):
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
        names = [str(name).lower() for name in node.attr("activations", usual)]
        self.activations = activations(node, names, len(usual))
        self.kernel = None
        count = len(_USUAL[node.type])
        if names[:count] == names[-count:] and not (
            self.clip > 0
            or self.coupled
            or node.has_input(7)
            or (node.type == "GRU" and not self.after_reset)
        ):
            self.kernel = _FUSED.get((node.type, *names[:count]))
        # sequences of different lengths: where nobody asks for the last cells, all may go on to the
        # end, each direction by itself
        self.padded = node.has_input(4) and not node.has_output(2)
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
            each = len(weights) // self.directions
            count = each if self.padded else len(weights)
            for start in range(0, len(weights), count):
                torch._cudnn_rnn_flatten_weight(
                    weights[start : start + count], each, w.shape[2],
                    cudnn.rnn.get_cudnn_mode(self.kernel.__name__.upper()), r.shape[2], 0, 1,
                    self.batch_first and not self.padded, count > each,
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


@lowers("RNN", "GRU", "LSTM", lowered=False)  # errors add up step by step
def _recurrent(node: Node) -> Compute:
    layer = _Layer(node)
    known = node.constant(4)

    def compute(
        x: torch.Tensor,
        w: Any,
        r: torch.Tensor,
        b: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
        h: torch.Tensor | None = None,
        c: torch.Tensor | None = None,
        peepholes: torch.Tensor | None = None,
    ) -> Any:
        weights = layer.weights(w, r, b)
        time, batch = x.shape[:2] if not layer.batch_first else (x.shape[1], x.shape[0])
        if known is not None and (known == time).all():
            lengths = None
        shape = (layer.directions, batch, weights[1].shape[1])
        states = [
            x.new_zeros(shape) if state is None else layer.state(state)
            for state in ([h, c] if layer.type == "LSTM" else [h])
        ]
        if layer.kernel is not None and time > 0 and lengths is None:
            return _fused(layer, layer.kernel, x, weights, states)
        if layer.batch_first:
            x = x.transpose(0, 1)
        if layer.kernel is not None and time > 0 and lengths is not None:
            run = _padded if layer.padded else _packed
            y, last = run(layer, layer.kernel, x, weights, states, lengths)
        else:
            y, last = by_steps(layer, x, weights, states, lengths, peepholes)
        return layer.results(y.transpose(0, 1) if layer.batch_first else y, last)

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


def _padded(
    layer: _Layer,
    kernel: Callable[..., Any],
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    states: Sequence[torch.Tensor],
    lengths: torch.Tensor,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Sequences of different lengths, each direction run to the end, its states picked from there:
    the lengths needn't be known on the host. As ``by_steps``."""
    steps = torch.arange(x.shape[0], device=x.device).view(-1, 1, 1)
    ends = lengths.to(x.device, torch.int64).view(1, -1, 1)
    inside = steps < ends
    turned = torch.where(inside, ends - 1 - steps, steps)
    each = len(weights) // layer.directions
    outputs, lasts = [], []
    for i, backward in enumerate(layer.reversed):
        state = [every[i : i + 1] for every in states]
        y, *_ = kernel(
            x.gather(0, turned.expand(-1, -1, x.shape[2])) if backward else x,
            state if layer.type == "LSTM" else state[0],
            weights[i * each : (i + 1) * each],
            each > 2,
            1,
            0.0,
            False,
            False,
            False,
        )
        last = y.gather(0, (ends - 1).clamp(min=0).expand(-1, -1, y.shape[2]))
        lasts.append(last.masked_fill(ends <= 0, 0.0))  # as ONNX Runtime has it
        y = y.gather(0, turned.expand(-1, -1, y.shape[2])) if backward else y
        outputs.append(y.masked_fill(~inside, 0.0))
    return torch.stack(outputs, 2), [torch.cat(lasts)]


def _packed(
    layer: _Layer,
    kernel: Callable[..., Any],
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    states: Sequence[torch.Tensor],
    ends: torch.Tensor,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Sequences of different lengths: torch takes their elements step by step, longest first. As
    ``by_steps``."""
    lengths = ends.cpu().numpy().astype(np.int64)
    time, batch = x.shape[:2]
    known = np.maximum(lengths, 1)  # torch wants at least one element of each
    order = np.argsort(-known, kind="stable")
    steps = np.arange(int(known.max()))[:, None]
    there = steps < known[order]
    places = np.where(layer.reversed == (True,), known[order] - 1 - steps, steps) * batch + order
    rows = torch.from_numpy(places[there]).to(x.device)
    sorting = torch.from_numpy(order).to(x.device)
    states = [state.index_select(1, sorting) for state in states]
    flat, *last = kernel(
        x.reshape(time * batch, -1).index_select(0, rows),
        torch.from_numpy(there.sum(1)),
        states if layer.type == "LSTM" else states[0],
        weights,
        len(weights) > 2 * layer.directions,
        1,
        0.0,
        False,
        layer.directions == 2,
    )
    y = flat.new_zeros(time * batch, flat.shape[1]).index_copy(0, rows, flat)
    y = y.view(time, batch, layer.directions, -1)
    back = torch.from_numpy(np.argsort(order)).to(x.device)
    last = [state.index_select(1, back) for state in last]
    if (lengths <= 0).any():  # as ONNX Runtime: an empty sequence leaves zeros
        empty = torch.from_numpy(lengths <= 0).to(x.device)
        y = y.masked_fill(empty.view(1, -1, 1, 1), 0.0)
        last = [state.masked_fill(empty.view(1, -1, 1), 0.0) for state in last]
    return y, last
