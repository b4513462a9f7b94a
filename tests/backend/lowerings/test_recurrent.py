"""RNN, GRU and LSTM: what is fused and what goes step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dioe.types import Array
from dioe_torch.lowerings import link, recurrent
from tests.backend.lowerings.against import agree, model_of, ours, program, randoms

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
TIME, BATCH, INPUT, HIDDEN = 5, 3, 4, 6
OUTPUTS = {"RNN": ("Y", "H"), "GRU": ("Y", "H"), "LSTM": ("Y", "H", "C")}


def feeds(
    op: str,
    directions: int = 1,
    bias: bool = True,
    lengths: Any = None,
    states: bool = True,
    peepholes: bool = False,
) -> list[Array | None]:
    gates = GATES[op]
    found: list[Array | None] = [
        randoms(TIME, BATCH, INPUT),
        randoms(directions, gates * HIDDEN, INPUT, seed=1),
        randoms(directions, gates * HIDDEN, HIDDEN, seed=2),
        randoms(directions, 2 * gates * HIDDEN, seed=3) if bias else None,
        None if lengths is None else np.array(lengths, np.int32),
        randoms(directions, BATCH, HIDDEN, seed=4) if states else None,
    ]
    if op == "LSTM":
        found.append(randoms(directions, BATCH, HIDDEN, seed=5) if states else None)
        found.append(randoms(directions, 3 * HIDDEN, seed=6) if peepholes else None)
    return found


@pytest.mark.parametrize(("op", "after_reset"), [("RNN", 0), ("GRU", 0), ("GRU", 1), ("LSTM", 0)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("constant", [(), (1, 2, 3, 4)], ids=["given", "constant"])
@pytest.mark.parametrize("lengths", [None, [5, 5, 5], [2, 5, 0]], ids=["none", "full", "some"])
def test_directions_and_lengths(
    op: str, direction: str, constant: Any, after_reset: int, lengths: Any
) -> None:
    extra: dict[str, Any] = {"linear_before_reset": after_reset} if op == "GRU" else {}
    given = feeds(op, 2 if direction == "bidirectional" else 1, lengths=lengths)
    for outputs in dict.fromkeys((OUTPUTS[op], ("Y", "H"))):
        agree(
            op, *given, outputs=outputs, constant=constant, direction=direction,
            hidden_size=HIDDEN, **extra,
        )  # fmt: skip


@pytest.mark.parametrize("op", GATES)
def test_constant_weights_are_put_in_order_once(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = feeds(op, 2)
    model = model_of(op, given, 14, OUTPUTS[op], (1, 2, 3), direction="bidirectional")
    linked = link(program(model), torch.device("cpu"))
    # in place of the model's, not beside them
    held = sum(weight.numel() for weight in linked.constants)
    assert held == sum(feed.size for feed in given[1:4] if feed is not None)
    monkeypatch.setattr(recurrent._Layer, "in_order", None)
    linked.run([torch.from_numpy(feed) for i, feed in enumerate(given) if i in (0, 5, 6)])


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("outputs", [("Y",), ("", "H"), ("Y", "H")])
@pytest.mark.parametrize("opset", [7, 14])
def test_optional_inputs_and_outputs(
    op: str, bias: bool, states: bool, outputs: tuple[str, ...], opset: int
) -> None:
    agree(
        op, *feeds(op, bias=bias, states=states), outputs=outputs, opset=opset,
        hidden_size=HIDDEN, constant=(1, 2, 3),
    )  # fmt: skip


@pytest.mark.parametrize("lengths", [None, [1, 4, 0]])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(
    "extra", [{}, {"clip": 0.3}, {"input_forget": 1}, {"clip": 0.2, "input_forget": 1}]
)
def test_lstm_with_peepholes(lengths: Any, direction: str, extra: dict[str, Any]) -> None:
    given = feeds("LSTM", 1 + (direction == "bidirectional"), lengths=lengths, peepholes=True)
    agree("LSTM", *given, outputs=OUTPUTS["LSTM"], direction=direction, hidden_size=HIDDEN, **extra)


@pytest.mark.parametrize("op", GATES)
def test_clip(op: str) -> None:
    agree(op, *feeds(op), outputs=OUTPUTS[op], hidden_size=HIDDEN, clip=0.25)


@pytest.mark.parametrize(
    ("names", "alpha", "beta"),
    [
        (["Relu"], [], []),
        (["Affine"], [0.5], [0.25]),
        (["LeakyRelu"], [], []),
        (["LeakyRelu"], [0.3], []),
        (["ThresholdedRelu"], [0.2], []),
        (["ScaledTanh"], [0.7], [1.2]),
        (["HardSigmoid"], [], []),
        (["HardSigmoid"], [0.3], [0.4]),
        (["Elu"], [0.6], []),
        (["Softsign"], [], []),
        (["Softplus"], [], []),
    ],
)
def test_activations(names: list[str], alpha: list[float], beta: list[float]) -> None:
    scales: dict[str, Any] = {"activation_alpha": alpha} if alpha else {}
    shifts: dict[str, Any] = {"activation_beta": beta} if beta else {}
    given = feeds("RNN")
    given[2] = randoms(1, HIDDEN, HIDDEN) * np.float32(0.2)
    agree(
        "RNN", *given, outputs=OUTPUTS["RNN"], hidden_size=HIDDEN, activations=names,
        **scales, **shifts,
    )  # fmt: skip


def test_activations_take_their_parameters_in_turn() -> None:
    agree(
        "LSTM", *feeds("LSTM", 2), outputs=OUTPUTS["LSTM"], hidden_size=HIDDEN,
        direction="bidirectional", activation_alpha=[0.3, 0.4, 0.5], activation_beta=[0.6, 0.7],
        activations=["HardSigmoid", "Tanh", "LeakyRelu", "Sigmoid", "ScaledTanh", "Relu"],
    )  # fmt: skip


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("extra", [{}, {"clip": 10.0}], ids=["fused", "steps"])
@pytest.mark.parametrize("lengths", [None, [2, 5, 0]])
@pytest.mark.parametrize("outputs", [2, 3])
def test_batch_first_is_the_same_turned(
    op: str, extra: dict[str, Any], lengths: Any, outputs: int
) -> None:
    given = feeds(op, 2, lengths=lengths)
    attributes = {"hidden_size": HIDDEN, "direction": "bidirectional", **extra}
    turned = list(given)
    for i in (0, 5, 6):
        value = given[i] if i < len(given) else None
        turned[i : i + 1] = [None if value is None else np.swapaxes(value, 0, 1).copy()]
    turned = turned[: len(given)]
    wanted = ours(model_of(op, given, 14, OUTPUTS[op][:outputs], **attributes), given)
    got = ours(model_of(op, turned, 14, OUTPUTS[op][:outputs], layout=1, **attributes), turned)
    np.testing.assert_allclose(got[0], wanted[0].transpose(2, 0, 1, 3), atol=1e-6)
    for one, other in zip(got[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(one, other.swapaxes(0, 1), atol=1e-6)
