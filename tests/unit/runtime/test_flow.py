"""One run of a pipeline: which value goes where, and what becomes of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dioe.graph import Model
from dioe.runtime import Flow, Pipeline
from dioe.runtime.feeds import check_feeds
from dioe.types import Array, BackendError, InputError, UnsupportedError, Value
from tests.toys import models

X = np.random.default_rng(3).standard_normal((2, 4)).astype(np.float32)


def relu(feeds: Mapping[str, Any]) -> dict[str, Value]:
    return {"y": np.maximum(feeds["x"], 0)}


def double(x: Array) -> Array:
    return x * 2


def test_values_are_handed_on_as_they_are() -> None:
    made, seen = [], []

    def first() -> Array:
        made.append(X * 3)
        return made[0]

    def net(feeds: Mapping[str, Any]) -> dict[str, Value]:
        seen.append(feeds["x"])
        return relu(feeds)

    flow = Flow(Pipeline({"a": first, "n": models.relu("N, 4")}, [("a.out", "n.x")]))
    results = flow.run({}, {"n": net})
    assert seen[0] is made[0]
    np.testing.assert_array_equal(results["n.y"], np.maximum(X * 3, 0))


def test_a_callable_cannot_write_into_what_others_hold() -> None:
    def spoil(x: Array) -> Array:
        x += 1
        return x

    flow = Flow(Pipeline({"spoil": spoil}))
    given = X.copy()
    with pytest.raises(ValueError, match="read-only") as caught:
        flow.run({"x": given}, {})
    assert "in node 'spoil' of the pipeline" in caught.value.__notes__
    assert any("x = x.copy()" in note for note in caught.value.__notes__)
    np.testing.assert_array_equal(given, X)


def test_outputs_are_the_callers_own() -> None:
    flow = Flow(Pipeline({"part": lambda x: x[:1]}))
    given = X.copy()
    result = flow.run({"x": given}, {})["part.out"]
    assert isinstance(result, np.ndarray)
    result[:] = 7
    np.testing.assert_array_equal(given, X)


def test_outputs_without_edges_and_those_asked_for() -> None:
    def split(x: Array) -> dict[str, Array]:
        return {"a": x[:, :2], "b": x[:, 2:]}

    nodes = {"n": models.relu("N, 4"), "split": split, "f": double}
    edges = [("n.y", "split.x"), ("split.a", "f.x")]
    results = Flow(Pipeline(nodes, edges)).run({"n.x": X}, {"n": relu})
    assert list(results) == ["split.b", "f.out"]
    flow = Flow(Pipeline(nodes, edges, outputs=["n.y", "split.a"]))
    results = flow.run({"x": X}, {"n": relu})
    assert sorted(results) == ["f.out", "n.y", "split.a", "split.b"]
    assert list(flow.picked(results, ["b", "n.y"])) == ["b", "n.y"]
    for names in ("b", [], ["nothing"]):
        with pytest.raises(InputError):
            flow.picked(results, names)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"missing input: f\.x, g\.x"),
        ({"x": X}, "no input 'x'"),  # not unique
        ({"f.x": X, "g.x": X, "y": X, "g.y": X}, r"'g\.y' is given twice"),
        ({"f.x": X, "g.x": X, "g.z": X}, r"no input 'g\.z'"),
        ([X], "mapping of input names"),
    ],
)
def test_feeds(feeds: Any, message: str) -> None:
    def two(x: Array, y: Array | None = None) -> Array:
        return x if y is None else x + y

    flow = Flow(Pipeline({"f": double, "g": two}))
    with pytest.raises(InputError, match=message):
        flow.run(feeds, {})
    results = flow.run({"f.x": X, "g.x": X, "y": X}, {})
    np.testing.assert_array_equal(results["g.out"], 2 * X)
    np.testing.assert_array_equal(flow.run({"f.x": X, "g.x": X}, {})["g.out"], X)


async def a_coroutine() -> None:
    return None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"other": X}, "gave no output 'out'"),
        ({1: X}, "named an output 1"),
        ((x for x in X), "gave a generator"),
        (a_coroutine(), "gave a coroutine"),
    ],
)
def test_what_a_callable_gives(given: Any, message: str) -> None:
    flow = Flow(Pipeline({"a": lambda: given, "f": double}, [("a.out", "f.x")]))
    with pytest.raises(InputError, match=message) as caught:
        flow.run({}, {})
    assert caught.value.place == "node 'a'"


def test_errors_of_models_name_the_node() -> None:
    def broken(feeds: Mapping[str, Any]) -> dict[str, Value]:
        raise UnsupportedError("not today", place="here")

    flow = Flow(Pipeline({"n": models.relu("N, 4")}))
    with pytest.raises(UnsupportedError) as caught:
        flow.run({"x": X}, {"n": broken})
    assert caught.value.place == "node 'n': here"


def checked(feeds: Mapping[str, Any]) -> dict[str, Value]:
    return relu(check_feeds(feeds, Model.load(models.relu("N, 4")).inputs))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "None"),
        ("words", "a str, 'words'"),
        (X[0], "float32[4]"),
        (X[:, :3], "float32[2,3]"),
        (X.astype(np.float64), "float64[2,4]"),
        ([["a", "b"]], "a list"),
        (np.array(["a", "b"]), "<U1[2]"),
    ],
)
def test_who_gave_what_a_model_cannot_take_is_named(given: Any, told: str) -> None:
    pipeline = Pipeline({"f": lambda: {"z": given}, "n": models.relu("N, 4")}, [("f.z", "n.x")])
    with pytest.raises(InputError) as caught:
        Flow(pipeline).run({}, {"n": checked})
    assert caught.value.place == "node 'f'"
    assert caught.value.cause == (
        f"output 'z' is {told}, but input 'x' of node 'n' takes float32[N,4]"
    )
    assert caught.value.fix == "have the callable return float32[N,4] there"


def test_a_model_may_give_what_the_next_cannot_take() -> None:
    pipeline = Pipeline({"a": models.relu("N, M"), "n": models.relu("N, 4")}, [("a.y", "n.x")])
    with pytest.raises(InputError, match="converts it") as caught:
        Flow(pipeline).run({"a.x": X[:, :3]}, {"a": relu, "n": checked})
    assert caught.value.place == "node 'a'"


def test_inputs_that_do_not_go_together_are_told_with_where_they_are_from() -> None:
    joined = models.parse("g (float[N,4] a, float[N,4] b) => (float[N,4] y) { y = Add(a, b) }")

    def add(feeds: Mapping[str, Any]) -> dict[str, Value]:
        return {"y": check_feeds(feeds, Model.load(joined).inputs)["a"]}

    pipeline = Pipeline(
        {"f": lambda: X, "g": lambda: X[:1], "n": joined}, [("f.out", "n.a"), ("g.out", "n.b")]
    )
    with pytest.raises(InputError, match="b' has N = 1, but 'a' has 2") as caught:
        Flow(pipeline).run({}, {"n": add})
    assert caught.value.cause.endswith("('a' is f.out, 'b' is g.out)")
    assert caught.value.place == "node 'n'"


def test_what_the_caller_feeds_is_told_with_the_node_that_reads_it() -> None:
    flow = Flow(Pipeline({"n": models.relu("N, 4")}))
    with pytest.raises(InputError, match=r"input 'x' has shape \[4\]") as caught:
        flow.run({"x": X[0]}, {"n": checked})
    assert caught.value.place == "node 'n'"


@pytest.mark.parametrize(("rows", "advice"), [(0, "Nothing found"), (2, "")])
def test_what_a_failing_model_got_is_told(rows: int, advice: str) -> None:
    def broken(feeds: Mapping[str, Any]) -> dict[str, Value]:
        raise BackendError("Expand node: invalid shape")

    nodes = {"crop": lambda x: x[:rows], "n": models.relu("N, 4")}
    ask = {"crop": lambda x, net: net({"x": x[:rows]}), "n": models.relu("N, 4")}
    for pipeline in (
        Pipeline(nodes, [("crop.out", "n.x")]),
        Pipeline(ask, calls={"crop.net": "n"}),
    ):
        with pytest.raises(BackendError) as caught:
            Flow(pipeline).run({"x": X}, {"n": broken})
        assert caught.value.place == "node 'n'"
        assert caught.value.cause == f"it failed on x float32[{rows},4]: Expand node: invalid shape"
        assert advice in caught.value.fix


def test_a_callable_calls_a_model() -> None:
    def loop(net: Any, x: Array) -> Array:
        for _ in range(3):
            x = net({"x": x - 1})["y"]
        return x

    pipeline = Pipeline({"loop": loop, "n": models.relu("N, 4")}, calls={"loop.net": "n"})
    assert pipeline.order == ("loop",)
    assert pipeline.inputs == ("loop.x",)
    clock: dict[str, float] = {}
    result = Flow(pipeline).run({"x": X}, {"n": relu}, clock)["loop.out"]
    expected = X
    for _ in range(3):
        expected = np.maximum(expected - 1, 0)
    np.testing.assert_array_equal(result, expected)
    assert set(clock) == {"loop", "n"}
    assert all(ms >= 0 for ms in clock.values())


def test_a_called_model_that_raises_is_named_and_so_is_its_caller() -> None:
    def broken(feeds: Mapping[str, Any]) -> dict[str, Value]:
        raise UnsupportedError("not today")

    pipeline = Pipeline(
        {"ask": lambda net: net({}), "n": models.relu("N, 4")}, calls={"ask.net": "n"}
    )
    with pytest.raises(UnsupportedError) as caught:
        Flow(pipeline).run({}, {"n": broken})
    assert caught.value.place == "node 'n'"
    assert "in node 'ask' of the pipeline" in caught.value.__notes__


def test_values_are_let_go_of_after_their_last_reader() -> None:
    class Thing:
        pass

    alive: list[bool] = []
    kept: list[weakref.ref[Thing]] = []

    def make() -> Thing:
        thing = Thing()
        kept.append(weakref.ref(thing))
        return thing

    def after(x: int) -> int:
        gc.collect()
        alive.append(kept[0]() is not None)
        return x

    flow = Flow(
        Pipeline(
            {"make": make, "use": lambda thing: 1, "after": after},
            [("make.out", "use.thing"), ("use.out", "after.x")],
        )
    )
    assert flow.run({}, {}) == {"after.out": 1}
    assert alive == [False]
