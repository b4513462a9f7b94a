"""Pipelines: what they are made of, and what can't be one."""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dioe.runtime import Flow, Pipeline
from dioe.types import Array, InputError, ModelError
from tests.toys import models


def double(x: Array) -> Array:
    return x * 2


def split(x: Array, *, at: int = 1) -> dict[str, Array]:
    return {"head": x[:at], "tail": x[at:]}


def test_what_is_free_is_the_pipelines(tmp_path: Path) -> None:
    path = tmp_path / "dense.onnx"
    onnx.save(models.dense(), path)
    pipeline = Pipeline(
        {"last": path, "post": split, "first": models.relu("N, 8")},
        [("first.y", "post.x"), ("post.tail", "last.x")],
    )
    assert pipeline.order == ("first", "post", "last")
    assert pipeline.inputs == ("first.x", "post.at")
    assert [full for full in pipeline.inputs if pipeline.optional(full)] == ["post.at"]
    assert "first -> post -> last" in repr(pipeline)


def test_nodes_keep_the_order_they_are_given_in_where_edges_allow() -> None:
    assert Pipeline({"b": double, "a": double}).order == ("b", "a")


def any_values(**values: Array) -> Array:
    return np.concatenate(list(values.values()))


def test_a_callable_may_take_any_name() -> None:
    pipeline = Pipeline({"a": double, "join": any_values}, [("a.out", "join.left")])
    assert pipeline.inputs == ("a.x",)


async def later(x: Array) -> Array:
    return x


def positional(x: Array, /) -> Array:
    return x


NODES: dict[str, Any] = {
    "net": models.relu("N, 4"),
    "other": models.relu("N, 4"),
    "wide": models.relu("N, 8"),
    "cube": models.relu("N, 4, 4"),
    "ints": models.parse("g (int64[N, 4] x) => (int64[N, 4] y) { y = Neg(x) }"),
    "f": double,
    "g": split,
}

WRONG: list[tuple[list[Any], str, str]] = [
    ([("nett.y", "f.x")], "has no node 'nett'", "did you mean 'net'"),
    ([("net.z", "f.x")], "node 'net' has no output 'z'", "there are: y"),
    ([("net.y", "f.y")], "node 'f' has no parameter 'y'", "there are: x"),
    ([("f.out", "net.X")], "node 'net' has no input 'X'", "did you mean 'x'"),
    ([("net.y", "f.x"), ("other.y", "f.x")], "f.x is fed twice: by net.y and by other.y", ""),
    ([("net.y", "wide.x")], "the shapes differ", "net gives y float32[N,4], wide takes x"),
    ([("net.y", "cube.x")], "the ranks differ", "callable between them"),
    ([("net.y", "ints.x")], "the types differ", "int64"),
    ([("net.y", "f.x"), ("f.out", "net.x")], "a cycle: ", "declared state"),
    ([("net.y", "net.x")], "a cycle: net -> net", ""),
    ([("net", "f.x")], "'net' names no node's value", "det.out"),
    ([("net.y", "f")], "'f' names no node's value", "det.out"),
    (["net.y"], "is no pair", "det.out"),
    ([(1, "f.x")], "1 names no node's value", "det.out"),
]


@pytest.mark.parametrize(("edges", "message", "fix"), WRONG)
def test_edges_that_cannot_be(edges: list[Any], message: str, fix: str) -> None:
    with pytest.raises(InputError) as caught:
        Pipeline(NODES, edges)
    assert message in caught.value.cause
    assert fix in caught.value.fix


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_cycle_is_shown_in_the_order_of_values(length: int) -> None:
    names = [f"n{i}" for i in range(length)]
    edges = [(f"{a}.out", f"{b}.x") for a, b in zip(names, names[1:] + names[:1], strict=True)]
    with pytest.raises(InputError) as caught:
        Pipeline(dict.fromkeys(["free", *names], double), edges)
    shown = caught.value.cause.partition(": ")[2].split(" -> ")
    assert shown[0] == shown[-1]
    assert len(shown) == length + 1
    assert all((f"{a}.out", f"{b}.x") in edges for a, b in pairwise(shown))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({}, "nodes is {}"),
        ([("a", double)], "nodes is"),
        ({"a.b": double}, "'a.b' can't be a node's name"),
        ({"": double}, "'' can't be a node's name"),
        ({"a": later}, "coroutine function"),
        ({"a": positional}, "'x' can't be given by its name"),
        ({"a": functools.partial(later)}, "coroutine function"),
    ],
)
def test_nodes_that_cannot_be(nodes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pipeline(nodes)


def test_a_callable_without_a_signature() -> None:
    with pytest.raises(InputError, match="can't be told") as caught:
        Pipeline({"least": min})
    assert "def task" in caught.value.fix


def test_a_model_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ModelError) as caught:
        Pipeline({"a": double, "det": b"no model"})
    assert caught.value.place.startswith("node 'det'")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outputs": ["net.z"]}, "no output 'z'"),
        ({"outputs": ["no.y"]}, "no node 'no'"),
        ({"outputs": "net.y"}, "outputs is 'net.y'"),
        ({"calls": {"net.x": "other"}}, "'net' is a model"),
        ({"calls": {"f.y": "other"}}, "no parameter 'y'"),
        ({"calls": {"f.x": "g"}}, "no model of the pipeline"),
        ({"calls": ["f.x"]}, "calls is"),
        ({"calls": {"f.x": "net"}, "outputs": ["net.y"]}, "'net' is called by a callable"),
    ],
)
def test_outputs_and_calls_that_cannot_be(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pipeline(NODES, **settings)


def test_what_is_called_has_no_edges() -> None:
    with pytest.raises(InputError, match="'net' is called by a callable"):
        Pipeline(NODES, [("net.y", "g.x")], calls={"f.x": "net"})
    with pytest.raises(InputError, match=r"f\.x is fed twice: by net and by other\.y"):
        Pipeline(NODES, [("other.y", "f.x")], calls={"f.x": "net"})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"net.y": "other.x"}, "leads from 'net' to 'other'"),
        ({"y": "net.x"}, "no 'y'"),  # not unique
        ({"net.z": "net.x"}, "no 'net.z'"),
        ("net.y", "state is"),
        ({"net.y": "net.x"}, r"f\.out leads to it"),
    ],
)
def test_state_that_cannot_be(state: Any, message: str) -> None:
    pipeline = Pipeline(NODES, [("f.out", "net.x")])
    with pytest.raises(InputError, match=message):
        Flow(pipeline, state)
