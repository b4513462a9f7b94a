"""The subset of ONNX's node cases."""

from __future__ import annotations

import collections
from typing import Any

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


def test_as_written_nothing_is_brought_back_or_left_out() -> None:
    every = nodes.every()
    assert set(nodes.names()) < set(every)
    case = nodes.node_case("reshape_zero_dim", as_written=True)
    assert max(o.version for o in case.proto.opset_import) > nodes.OPSET
    assert (case.rtol, case.atol) == (1e-3, 1e-7)


def test_only_bernoulli_draws_what_nobody_can_foretell() -> None:
    drawn = {name for name in nodes.every() if nodes.node_case(name, as_written=True).drawn}
    assert {"bernoulli", "bernoulli_seed", "bernoulli_expanded"} <= drawn
    assert all(name.startswith("bernoulli") for name in drawn)


@pytest.mark.parametrize(
    ("name", "dtypes"),
    [
        ("cast_FLOAT_to_BFLOAT16", ["float32", "bfloat16"]),
        ("cast_FLOAT16_to_FLOAT8E4M3FNUZ", ["float16", "float8_e4m3fnuz"]),
        ("cast_INT4_to_FLOAT", ["int4", "float32"]),
        ("cast_FLOAT4E2M1_to_FLOAT", ["float4_e2m1fn", "float32"]),
        ("string_split_basic", ["object", "object", "int64"]),
    ],
)
def test_values_have_the_dtypes_of_the_contract(name: str, dtypes: list[str]) -> None:
    case = nodes.node_case(name, as_written=True)
    values: list[Any] = [*case.feeds.values(), *case.expected.values()]
    assert [value.dtype.name for value in values] == dtypes
