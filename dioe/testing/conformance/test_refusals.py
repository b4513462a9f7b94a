"""What ``query`` claims, ``compile`` takes; what it refuses has a reason and isn't run anyhow."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from dioe.graph import Model
from dioe.testing.cases import cases
from dioe.testing.models import floats, load, model, relu
from dioe.testing.subject import Subject, assert_refused, run
from dioe.types import (
    Precision,
    Precisions,
    Support,
)


def check(subject: Subject, made: Model, precision: Precision) -> Support:
    """Every op is either supported or refused with a reason, and ``compile`` agrees."""
    support = subject.backend.query(made, subject.device, precision)
    assert support.supported | set(support.refused) == set(made.op_ids)
    assert not support.supported & set(support.refused)
    for op, reason in support.refused.items():
        assert isinstance(reason, str), op
        assert reason.strip(), op
    context = subject.open()
    if support.whole:
        context.compile(made, Precisions(precision), {}).close()
    else:
        assert_refused(context, made, precision)
    context.close()
    return support


def test_case(subject: Subject, case: str) -> None:
    """Claims and refusals of the cases are honest. (Those of ONNX's node cases are checked where
    they are run, in the section ``nodes``.)"""
    check(subject, next(c.model for c in cases() if c.name == case), Precision.FP32)


def test_something_is_taken(subject: Subject) -> None:
    """A backend that refuses everything covers nothing."""
    plain = [
        relu(),
        model("g (float[2] x) => (float[2] y) { y = Add(x, x) }"),
        model("g (float[2] x) => (float[2] y) { y = Identity(x) }"),
        model("g (float[2,3] x, float[3,2] w) => (float[2,2] y) { y = MatMul(x, w) }"),
    ]
    query, computes = subject.backend.query, subject.capabilities.computes
    assert any(query(m, subject.device, p).whole for m in plain for p in computes)


def test_an_op_that_nobody_has(subject: Subject) -> None:
    """It is refused with its name in the reason, the ops around it are not."""
    info = helper.make_tensor_value_info
    made = load(
        [
            helper.make_node("Relu", ["x"], ["r"], name="good"),
            helper.make_node("Relu", ["r"], ["t"], name="fine"),
            helper.make_node("Nonsense", ["t"], ["y"], name="bad", domain="of.its.own"),
        ],
        [info("x", TensorProto.FLOAT, [2])],
        [info("y", TensorProto.FLOAT, [2])],
    )
    subject.take(relu())
    support = check(subject, made, Precision.FP32)
    assert "Nonsense" in support.refused["bad"]
    assert support.supported == {"good", "fine"}


def test_precisions_that_are_not_computed(subject: Subject) -> None:
    """They are refused by name, for every op."""
    missing = set(Precision) - subject.capabilities.computes
    for precision in missing:
        support = check(subject, relu(), precision)
        assert not support.supported
        assert all(precision in reason for reason in support.refused.values())


def test_symbolic_shapes(subject: Subject) -> None:
    """A backend without dynamic shapes refuses them, one with takes them."""
    subject.take(relu())
    support = check(subject, relu("N"), Precision.FP32)
    assert support.whole == subject.capabilities.dynamic_shapes


@pytest.mark.correctness
def test_asking_leaves_the_model_as_it_was(subject: Subject) -> None:
    """``query`` and ``compile`` change nothing of a model that others hold."""
    made = relu()
    before = made.to_bytes()
    subject.take(made)
    request = subject.request(made)
    run(request, {"x": floats(2, 4)})
    assert made.to_bytes() == before
