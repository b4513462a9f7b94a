"""Models whose work is known: it is what they say, and nothing of it can be left out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from dioe.graph import OpGraph
from dioe.profiling.calibration_models import (
    LAYERS,
    Form,
    Work,
    forget,
    launches,
    products,
    sums,
)
from dioe.types import Array


def run(work: Work) -> Array:
    model = ir.to_proto(work.model.ir)
    (output,) = ReferenceEvaluator(model).run(None, dict(work.feeds))
    return np.asarray(output)


@pytest.mark.parametrize("form", Form)
def test_products_have_the_error_of_their_form(form: Form) -> None:
    work = products(48, form)
    assert work.expected is not None
    expected = work.expected()
    got = run(work)[: len(expected)]
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert error < 1e-5 if form is Form.FLOAT else 1e-3 < error < 0.1
    assert work.flops == 2 * LAYERS * 48**3
    assert np.std(expected) == pytest.approx(1, rel=0.5)


def test_flops_are_those_of_the_graph() -> None:
    graph = OpGraph.build(products(32).model)
    assert sum(op.flops or 0 for op in graph.ops.values()) == products(32).flops


@pytest.mark.parametrize("length", [1, 2, 65])
def test_launches_neither_grow_nor_fade(length: int) -> None:
    work = launches(length)
    assert Counter(n.op_type for n in work.model.ir.graph) == {"MatMul": length}
    assert np.linalg.norm(run(work)) == pytest.approx(np.linalg.norm(work.feeds["x"]), rel=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(768, 1 << 18), st.integers(1, 9))
def test_sums_use_what_they_say(nbytes: int, length: int) -> None:
    work = sums(nbytes, length)
    x, y = (work.feeds[name] for name in "xy")
    assert x.shape == y.shape
    assert x.shape[0] != x.shape[1]  # else reshaping would be nothing
    assert work.nbytes == 3 * x.nbytes
    assert work.nbytes == pytest.approx(nbytes, rel=0.35)
    kinds = Counter(node.op_type for node in work.model.ir.graph)
    assert kinds["Add"] == length == work.ops
    assert np.isfinite(run(work)).all()
    forget()


def test_models_are_shared_until_forgotten() -> None:
    made = products(16)
    assert products(16) is made
    forget()
    assert products(16) is not made
