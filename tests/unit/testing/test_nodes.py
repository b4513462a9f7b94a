"""The subset of ONNX's node cases."""

from __future__ import annotations

import collections

import pytest

from dioe.testing import nodes


def test_the_subset_is_there_and_each_case_once() -> None:
    names = [name for family in nodes.FAMILIES.values() for name in family.names]
    assert collections.Counter(names).most_common(1)[0][1] == 1
    assert set(names) == set(nodes.SUBSET)
    assert set(names) <= set(nodes.names())
    assert len(names) > 250


def test_random_and_training_cases_are_left_out() -> None:
    for name in nodes.names():
        assert "bernoulli" not in name
        assert "training" not in name
    assert "reduce_sum_keepdims_random" in nodes.names()
    assert len(nodes.names()) > 1000


@pytest.mark.parametrize("name", ["softmax_axis_1", "identity_sequence", "string_concat"])
def test_cases_have_feeds_and_outputs_by_name(name: str) -> None:
    case = nodes.node_case(name)
    assert list(case.feeds) == [value.name for value in case.proto.graph.input]
    assert list(case.expected) == [value.name for value in case.proto.graph.output]


def test_newer_cases_are_brought_back() -> None:
    case = nodes.node_case("reshape_zero_dim")
    assert [(o.domain, o.version) for o in case.proto.opset_import] == [("", nodes.OPSET)]
    assert case.proto.ir_version == nodes.IR_VERSION
    with pytest.raises(KeyError):
        nodes.node_case("no_such_case")
