"""Plans of several stages: the whole model's outputs, wherever it is cut."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from dioe.graph import Model, OpGraph
from dioe.runtime import Runtime, Session
from dioe.types import Array, BackendError, Feeds, Plan, PlanMismatch, Value
from tests.toys import models
from tests.toys.backend import ToyBackend, ToyRequest, registry_of
from tests.toys.stages import staged_plan
from tests.toys.values import close, tensor

BACKENDS = ("onnxruntime", "openvino", "reference", "toy")


def rows(n: int, width: int = 8, *, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def reference(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """Outputs of a model by ``onnx.reference``."""
    results: Any = ReferenceEvaluator(proto).run(None, feeds)
    return list(results)


def placed(model: Model) -> tuple[str, ...]:
    return OpGraph.build(model).ids


@pytest.mark.parametrize("backends", list(itertools.product(BACKENDS, repeat=2)))
def test_two_stages_give_the_whole_models_outputs(
    runtime: Runtime, backends: tuple[str, str]
) -> None:
    proto = models.dense()
    model = Model.load(proto)
    ops = placed(model)
    for cut in (1, 2, 3):
        parts = list(zip(backends, (ops[:cut], ops[cut:]), strict=True))
        plan = staged_plan(model, parts, {"x": (4, 8)})
        with Session(model, [plan], runtime=runtime) as session:
            for seed in range(3):
                x = rows(4, seed=seed)
                close(tensor(session.run({"x": x})), models.dense_output(proto, x))
            x = rows(7)  # stages with open shapes
            close(tensor(session.run({"x": x})), models.dense_output(proto, x))


@pytest.mark.parametrize("backends", list(itertools.permutations(BACKENDS, 3)))
def test_three_stages_with_a_value_that_skips_one(
    runtime: Runtime, backends: tuple[str, str, str]
) -> None:
    proto = models.branches()
    model = Model.load(proto)
    matmul, tanh, exp, mul = placed(model)
    parts = list(zip(backends, ([matmul, tanh], [exp], [mul]), strict=True))
    plan = staged_plan(model, parts, {"x": (3, 6)})
    with Session(model, [plan], runtime=runtime) as session:
        for seed in range(3):
            x = rows(3, 6, seed=seed)
            outputs = session.run({"x": x})
            y, z = reference(proto, {"x": x})
            close(tensor(outputs, "y"), y)
            close(tensor(outputs, "z"), z)
            assert list(session.run({"x": x}, ["z"])) == ["z"]


def two_stages(first: str = "toy", second: str = "toy") -> tuple[onnx.ModelProto, Model, Plan]:
    proto = models.dense()
    model = Model.load(proto)
    ops = placed(model)
    return proto, model, staged_plan(model, [(first, ops[:2]), (second, ops[2:])], {"x": (4, 8)})


def test_the_plans_graph_shows_stages_and_transfers(runtime: Runtime) -> None:
    _, model, plan = two_stages()
    with Session(model, [plan], runtime=runtime) as session:
        graph = session.plan.graph
        assert [n for n, d in graph.nodes(data=True) if d["kind"] == "stage"] == ["s0", "s1"]
        (transfer,) = [d for _, d in graph.nodes(data=True) if d["kind"] == "transfer"]
        assert transfer["boundary"].value == "b"
        assert transfer["boundary"].nbytes == 4 * 8 * 4


class BindLog:
    """Every array that the toy backend's requests were given, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inputs: list[tuple[str, Value]] = []
        self.outputs: list[tuple[str, Value]] = []
        bind = ToyRequest.bind

        def logged(request: ToyRequest, inputs: Feeds, outputs: Feeds | None = None) -> None:
            self.inputs += inputs.items()
            self.outputs += (outputs or {}).items()
            bind(request, inputs, outputs)

        monkeypatch.setattr(ToyRequest, "bind", logged)

    def clear(self) -> None:
        self.inputs.clear()
        self.outputs.clear()


@pytest.fixture
def binds(monkeypatch: pytest.MonkeyPatch) -> BindLog:
    return BindLog(monkeypatch)


def test_a_boundary_is_one_buffer_bound_once(runtime: Runtime, binds: BindLog) -> None:
    proto, model, plan = two_stages()
    with Session(model, [plan], runtime=runtime) as session:
        for seed in range(5):
            x = rows(4, seed=seed)
            close(tensor(session.run({"x": x})), models.dense_output(proto, x))
        written, read = dict(binds.outputs), dict(binds.inputs)
        assert len(binds.outputs) == len(written) == 2  # b and y
        assert len(binds.inputs) == len(read) == 2  # x and b
        assert written["b"] is read["b"]
        assert isinstance(read["b"], np.ndarray)
        assert read["b"].ctypes.data % 64 == 0
        binds.clear()
        x, y = rows(4), np.zeros((4, 8), np.float32)
        bound = session.bind({"x": x}, {"y": y})
        assert dict(binds.inputs)["x"] is x
        assert dict(binds.outputs)["y"] is y
        assert dict(binds.outputs)["b"] is dict(binds.inputs)["b"]
        binds.clear()
        for _ in range(3):
            bound.run()
        assert not binds.inputs
        assert not binds.outputs


@pytest.mark.parametrize("first", ["onnxruntime", "openvino"])
def test_native_backends_hand_on_views(runtime: Runtime, toy: ToyBackend, first: str) -> None:
    _, model, plan = two_stages(first, "toy")
    with Session(model, [plan], runtime=runtime) as session:
        bound = session.bind({"x": rows(4)})
        bound.run()
        bound.run()
    a, b = (np.asarray(received["b"]) for received in toy.received)
    assert not a.flags.owndata
    assert a.ctypes.data == b.ctypes.data


@pytest.mark.parametrize("first", BACKENDS)
@pytest.mark.parametrize("second", BACKENDS)
def test_outputs_of_staged_runs_are_the_callers_own(
    runtime: Runtime, first: str, second: str
) -> None:
    proto = models.branches()
    model = Model.load(proto)
    ops = placed(model)
    plan = staged_plan(model, [(first, ops[:3]), (second, ops[3:])], {"x": (3, 6)})
    with Session(model, [plan], runtime=runtime) as session:
        x1, x2 = rows(3, 6, seed=1), rows(3, 6, seed=2)
        one: Any = session.run({"x": x1})
        kept = {name: array.copy() for name, array in one.items()}
        two: Any = session.run({"x": x2})
        for name in ("y", "z"):
            np.testing.assert_array_equal(one[name], kept[name])
            assert not np.shares_memory(one[name], two[name])
            one[name][:] = np.nan
        three: Any = session.run({"x": x2})
        for name in ("y", "z"):
            np.testing.assert_array_equal(three[name], two[name])


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(BACKENDS, 2)))
def test_staged_requests_are_bound_in_place(runtime: Runtime, first: str, second: str) -> None:
    proto, model, plan = two_stages(first, second)
    with Session(model, [plan], runtime=runtime) as session:
        x1, x2, y = rows(4, seed=1), rows(4, seed=2), np.zeros((4, 8), np.float32)
        one, two = session.bind({"x": x1}, {"y": y}), session.bind({"x": x2})
        assert one.run()["y"] is y
        other = tensor(two.run())
        close(y, models.dense_output(proto, x1))
        close(other, models.dense_output(proto, x2))
        x1[:] = rows(4, seed=3)
        one.run()
        close(y, models.dense_output(proto, x1))
        close(other, models.dense_output(proto, x2))


def test_staged_state(runtime: Runtime) -> None:
    model = Model.load(models.accumulator())
    ops = placed(model)
    plan = staged_plan(model, [("onnxruntime", ops[:1]), ("toy", ops[1:])], {})
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    with Session(model, [plan], runtime=runtime, state={"s2": "s"}) as session:
        bound = session.bind({"x": x})
        for i in range(1, 4):
            close(tensor(session.run({"x": x})), i * x)
            close(tensor(bound.run()), i * x)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(BACKENDS, 2)))
@pytest.mark.parametrize("dtype", ["float16", "double", "int64", "bool"])
def test_every_dtype_passes_from_backend_to_backend(
    runtime: Runtime, first: str, second: str, dtype: str
) -> None:
    model = Model.load(
        models.parse(f"""
            g ({dtype}[2, 3] x) => ({dtype}[3, 4] y) {{
                t = Transpose<perm = [1, 0]>(x)
                y = Concat<axis = 1>(t, t)
            }}
        """)
    )
    ops = placed(model)
    plan = staged_plan(model, [(first, ops[:1]), (second, ops[1:])])
    numpy_name = {"double": "float64"}.get(dtype, dtype)
    x = (np.random.default_rng(1).random((2, 3)) * 9).astype(numpy_name)
    with Session(model, [plan], runtime=runtime) as session:
        close(tensor(session.run({"x": x})), np.concatenate([x.T, x.T], axis=1), 1e-6)


def test_threads_share_a_staged_session(runtime: Runtime) -> None:
    proto, model, plan = two_stages("onnxruntime", "openvino")

    def work(worker: int) -> None:
        rng = np.random.default_rng(worker)
        for _ in range(50):
            x = rng.standard_normal((4, 8)).astype(np.float32)
            close(tensor(session.run({"x": x})), models.dense_output(proto, x))

    with Session(model, [plan], runtime=runtime) as session, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@pytest.mark.parametrize("broken", ["one", "two"])
def test_an_error_in_a_stage_leaves_the_session_usable(broken: str) -> None:
    backends = {name: ToyBackend(name) for name in ("one", "two")}
    proto, model, plan = two_stages("one", "two")
    runtime = Runtime(registry_of(*backends.values()))

    def fail(outputs: dict[str, Value]) -> dict[str, Value]:
        raise BackendError("the device sulks")

    with Session(model, [plan], runtime=runtime) as session:
        x = rows(4)
        for _ in range(3):
            backends[broken].during = fail
            with pytest.raises(BackendError, match="sulks"):
                session.run({"x": x})
            backends[broken].during = lambda outputs: outputs
            close(tensor(session.run({"x": x})), models.dense_output(proto, x))
    for backend in backends.values():
        assert backend.count("compile") == backend.count("close executable") == 1
        assert backend.count("open") == backend.count("close context") == 1


def test_a_stage_that_fails_to_compile_leaves_nothing_open() -> None:
    one, two = ToyBackend("one"), ToyBackend("two", dynamic=False)
    model = Model.load(models.dense())
    ops = placed(model)
    plan = staged_plan(model, [("one", ops[:2]), ("two", ops[2:])])
    with pytest.raises(Exception, match="no open shapes"):
        Session(model, [plan], runtime=Runtime(registry_of(one, two)))
    assert one.count("close executable") == 1
    for backend in (one, two):
        assert backend.count("open") == backend.count("close context") == 1


def test_stages_out_of_order_are_run_in_order(runtime: Runtime) -> None:
    proto, model, plan = two_stages("onnxruntime", "toy")
    plan = replace(plan, stages=plan.stages[::-1])
    x = rows(4)
    with Session(model, [plan], runtime=runtime) as session:
        close(tensor(session.run({"x": x})), models.dense_output(proto, x))


def test_stages_with_other_edges_are_refused(runtime: Runtime) -> None:
    _, model, plan = two_stages("onnxruntime", "toy")
    first, second = plan.stages
    wrong = ("nonsense",)
    for changed in (replace(first, inputs=wrong), replace(first, outputs=wrong)):
        stages = (changed, second)
        with pytest.raises(PlanMismatch, match="nonsense"):
            Session(model, [replace(plan, stages=stages)], runtime=runtime)


def test_stages_that_arent_the_models_are_refused(runtime: Runtime) -> None:
    _, model, plan = two_stages()
    first, second = plan.stages
    for stages in (
        (first,) * 2,
        (first, replace(second, ops=second.ops[:1])),
        (first, replace(second, ops=(*second.ops, "nonsense"))),
        (first, replace(second, ops=(*first.ops, *second.ops))),
    ):
        with pytest.raises(PlanMismatch) as caught:
            Session(model, [replace(plan, stages=stages)], runtime=runtime)
        assert caught.value.fix


def test_stages_in_a_circle_are_refused(runtime: Runtime) -> None:
    model = Model.load(models.dense())
    ops = placed(model)
    plan = staged_plan(model, [("toy", [ops[0], ops[2]]), ("toy", [ops[1], ops[3]])])
    with pytest.raises(PlanMismatch, match="circle"):
        Session(model, [plan], runtime=runtime)


# --- any split ----------------------------------------------------------------------------------

OPS = ("Relu", "Tanh", "Sigmoid", "Abs", "Neg", "Add", "Sub", "Mul", "Max")
SHARED = ToyBackend()
SHARED_RUNTIME = Runtime(registry_of(SHARED, installed=("onnxruntime", "openvino")))


@st.composite
def split_chains(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, int]]]:
    """Op types of a chain, and (backend, number of ops) of each part that it is cut into."""
    ops = draw(st.lists(st.sampled_from(OPS), min_size=2, max_size=7))
    cuts = draw(st.sets(st.integers(1, len(ops) - 1), min_size=1, max_size=4))
    edges = [0, *sorted(cuts), len(ops)]
    sizes = [b - a for a, b in itertools.pairwise(edges)]
    backends = st.sampled_from(("toy", "onnxruntime", "openvino"))
    return ops, [(draw(backends), size) for size in sizes]


@settings(max_examples=40, deadline=None)
@given(split=split_chains(), seed=st.integers(0, 2**32 - 1))
def test_outputs_dont_depend_on_the_split(
    split: tuple[list[str], list[tuple[str, int]]], seed: int
) -> None:
    op_types, sizes = split
    proto = models.chain(op_types)
    model = Model.load(proto)
    ids = iter(placed(model))
    parts = [(backend, tuple(itertools.islice(ids, size))) for backend, size in sizes]
    x = rows(1, 5, seed=seed)
    (expected,) = reference(proto, {"x": x})
    plan = staged_plan(model, parts)
    with Session(model, [plan], runtime=SHARED_RUNTIME) as session:
        close(tensor(session.run({"x": x})), expected)
        close(tensor(session.bind({"x": x}).run()), expected)
