"""What an inspection says of a model whose work can be counted by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dioe.types import Support
from dioe_inspect import inspect_model
from dioe_inspect.inspection import Amount, refusal
from tests.unit.inspect.models import INT8, OPENVINO, ORT, answers, graph_of, plan_of

CONV = 2 * 4 * 8 * 8 * 4 * 9  # multiply and add, outputs, inputs and kernel


def test_model() -> None:
    graph = graph_of()
    model = inspect_model(graph, {}).model
    assert (model.path, model.sha256) == (None, graph.model.sha256)
    assert (model.opsets, model.producer, model.ops) == ({"": 17}, "maker", 6)
    assert [spec.shape for spec in model.inputs] == [(1, 4, 8, 8)]
    assert model.work.parameters == 2 * 4 * 4 * 9
    assert model.work.parameter_bytes == 4 * model.work.parameters
    assert model.work.flops.unknown_ops == 0
    assert model.work.flops.known >= 2 * CONV + 3 * 256


def test_sums_agree() -> None:
    inspection = inspect_model(graph_of(), {})
    whole = inspection.model.work
    assert sum(row.work.flops.known for row in inspection.op_types) == whole.flops.known
    assert sum(row.count for row in inspection.op_types) == inspection.model.ops
    assert sum(b.work.flops.known * b.times for b in inspection.blocks) == whole.flops.known
    assert sum(b.times * len(b.op_types) for b in inspection.blocks) == inspection.model.ops
    assert inspection.op_types[0].op_type == "Conv"


def test_unknown_shapes_are_counted_not_guessed() -> None:
    work = inspect_model(graph_of(batch=None), {}).model.work
    assert work.flops == Amount(0, 6)
    assert work.parameters == 2 * 4 * 4 * 9


def test_targets() -> None:
    graph = graph_of()
    inspection = inspect_model(graph, answers(graph))
    ort, openvino, int8 = inspection.targets
    assert (ort.target, ort.supported_ops, ort.whole) == (ORT, 6, True)
    assert (openvino.supported_ops, openvino.refused) == (5, {"pool": "no pooling here"})
    assert int8.supported_ops == 0
    pool = inspection.ops[-1]
    assert pool.refused == {OPENVINO: "no pooling here", INT8: "nothing is quantised"}
    assert ort.cost_ms is None


def test_answers_about_other_ops_do_not_count() -> None:
    """Backends also answer for Constant nodes, which are no ops of the graph."""
    graph = graph_of()
    support = Support(frozenset({*graph.ids, "constant"}), {"other": "no"})
    (target,) = inspect_model(graph, {ORT: support}).targets
    assert (target.supported_ops, target.whole) == (6, True)


def test_an_op_that_is_not_named_is_refused() -> None:
    assert refusal(Support(frozenset({"a"})), "a") is None
    assert "does not name it" in str(refusal(Support(frozenset({"a"})), "b"))


def test_costs() -> None:
    graph = graph_of()
    costs = {ORT: {"first": 0.5, "second": 0.25, "elsewhere": 9.0}}
    inspection = inspect_model(graph, answers(graph), costs)
    assert (inspection.targets[0].cost_ms, inspection.targets[0].costed_ops) == (0.75, 2)
    assert inspection.targets[1].cost_ms is None
    assert inspection.ops[0].costs_ms == {ORT: 0.5}


def test_plan() -> None:
    graph = graph_of()
    inspection = inspect_model(graph, answers(graph), plan=plan_of(graph))
    assert inspection.plan is not None
    assert inspection.plan.stages == (("s0", OPENVINO, 5), ("s1", ORT, 1))
    assert [op.placed_on for op in inspection.ops] == [OPENVINO] * 5 + [ORT]
    assert [op.stage for op in inspection.ops] == ["s0"] * 5 + ["s1"]


def _shape_of(data: Any) -> Any:
    """Keys and types of plain data, lists by their first item."""
    if isinstance(data, dict):
        return {key: _shape_of(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_shape_of(data[0])] if data else []
    return type(data).__name__


AMOUNT = {"known": "int", "unknown_ops": "int"}
WORK = {
    "flops": AMOUNT,
    "bytes_read": AMOUNT,
    "bytes_written": AMOUNT,
    "parameters": "int",
    "parameter_bytes": "int",
}
SPEC = {"name": "str", "dtype": "str", "shape": ["int"], "kind": "str"}


def test_to_dict() -> None:
    graph = graph_of()
    costs = {ORT: dict.fromkeys(graph.ids, 0.5)}
    data = inspect_model(graph, answers(graph), costs, plan_of(graph)).to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["format"], data["version"]) == ("dioe-inspection", 1)
    shape = _shape_of(data)
    assert shape["model"] == {
        "path": "NoneType",
        "sha256": "str",
        "ir_version": "int",
        "producer": "str",
        "opsets": {"": "int"},
        "inputs": [SPEC],
        "outputs": [SPEC],
        "ops": "int",
        "work": WORK,
        "declared_inputs": [],
        "declared_outputs": [],
    }
    assert shape["op_types"] == [{"op_type": "str", "count": "int", "work": WORK}]
    assert shape["blocks"] == [
        {
            "structure_hash": "str",
            "kind": "str",
            "ids": ["str"],
            "op_types": ["str"],
            "work": WORK,
            "times": "int",
        }
    ]
    assert shape["targets"] == [
        {
            "target": "str",
            "supported_ops": "int",
            "refused": {},
            "costed_ops": "int",
            "cost_ms": "float",
            "whole": "bool",
        }
    ]
    assert shape["ops"] == [
        {
            "id": "str",
            "op_type": "str",
            "domain": "str",
            "block": "str",
            "inputs": [SPEC],
            "outputs": [SPEC],
            "flops": "int",
            "bytes_read": "int",
            "bytes_written": "int",
            "parameters": "int",
            "parameter_bytes": "int",
            "refused": {INT8: "str"},
            "costs_ms": {ORT: "float"},
            "placed_on": "str",
            "stage": "str",
        }
    ]
    assert data["plan"] == {
        "stages": [["s0", OPENVINO, 5], ["s1", ORT, 1]],
        "predicted_ms": 1.25,
        "basis": "measured",
    }
    assert data["model"]["inputs"][0]["dtype"] == "float32"


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [([], Amount(0, 0)), ([1, 2], Amount(3, 0)), ([None, 2, None], Amount(2, 2))],
)
def test_amount(amounts: list[int | None], expected: Amount) -> None:
    assert Amount.of(amounts) == expected
