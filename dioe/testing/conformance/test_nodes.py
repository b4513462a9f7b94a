"""ONNX's node cases: the subset of ``dioe.testing.nodes``, or all with ``--all-nodes``."""

from __future__ import annotations

import pytest

from dioe.graph import Model
from dioe.testing.judging import assert_outputs, limit
from dioe.testing.nodes import node_case
from dioe.testing.subject import NotCovered, Subject, assert_refused, not_covered, run
from dioe.types import ModelError, Precision

pytestmark = pytest.mark.correctness


def test_node(subject: Subject, precision: Precision, node: str) -> None:
    """What ONNX says comes out, by the fidelity rule; or it is refused, by ``compile`` as well."""
    try:
        case = node_case(node)
    except KeyError as error:
        raise not_covered(f"not a case of the installed onnx: {error}") from error
    try:
        model = Model.load(case.proto)
    except ModelError as error:
        raise not_covered(f"DIOE doesn't read it: {error}") from error
    try:
        executable = subject.compile(model, precision)
    except NotCovered:
        if precision in subject.capabilities.computes:
            assert_refused(subject.open(), model, precision)
        raise
    found = run(executable.request(), case.feeds)
    assert_outputs(found, case.expected, limit(precision, case.feeds, case.expected))
