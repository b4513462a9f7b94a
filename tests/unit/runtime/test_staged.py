"""Staged requests: every kind of value on every way, and nobody's memory but the caller's own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from dioe.graph import Model, OpGraph
from dioe.runtime import LoadedPlan, Runtime, Session, load, staged
from dioe.runtime.staged import StagedRequest
from dioe.types import Array, HostBuffer, InputError, Plan, Value
from tests.toys import models
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.device import DeviceToyBackend
from tests.toys.plans import plan_for
from tests.toys.stages import staged_plan
from tests.toys.values import close, tensor

NATIVE = ("onnxruntime", "openvino")
DEVICES = ("gpu:0/devtoy", "npu:0/other")
SHARED_RUNTIME = Runtime(
    registry_of(
        ToyBackend(),
        DeviceToyBackend(),
        DeviceToyBackend("other", "npu:0"),
        installed=(*NATIVE, "reference"),
    )
)


def chained(proto: onnx.ModelProto, *backends: str) -> tuple[Model, Plan]:
    """The model with one op a stage, on these backends in turn."""
    model = Model.load(proto)
    ops = OpGraph.build(model).ids
    parts = [(backends[i % len(backends)], [op]) for i, op in enumerate(ops)]
    return model, staged_plan(model, parts)


def answers(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by ``onnx.reference``; those that are inputs as they are fed."""
    names = [v.name for v in proto.graph.output]
    made = [name for name in names if name not in feeds]
    results: Any = ReferenceEvaluator(proto).run(made, dict(feeds))
    found = dict(zip(made, results, strict=True))
    return {name: found[name] if name in found else feeds[name] for name in names}


# --- any graph, any cut -------------------------------------------------------------------------

UNARY = ("Relu", "Tanh", "Sigmoid", "Abs", "Neg", "Identity")
BINARY = ("Add", "Sub", "Mul", "Max")
SHAPE = (2, 3)


@st.composite
def cut_graphs(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[str], list[int]]:
    """A graph of element-wise ops with several outputs, and the backend and stage of each op."""
    inputs = [f"x{i}" for i in range(draw(st.integers(1, 3)))]
    values, nodes, stages = list(inputs), [], []
    maker: dict[str, int] = {}
    for i in range(draw(st.integers(2, 9))):
        op = draw(st.sampled_from(UNARY + BINARY))
        reads = [draw(st.sampled_from(values)) for _ in range(2 if op in BINARY else 1)]
        nodes.append(helper.make_node(op, reads, [f"v{i}"], name=f"n{i}"))
        # never before what it reads: so stages can't depend on each other in a circle
        first = max(maker.get(name, 0) for name in reads)
        stages.append(draw(st.integers(first, 4)))
        maker[f"v{i}"] = stages[-1]
        values.append(f"v{i}")
    used = {name for node in nodes for name in node.input}
    outputs = [name for name in maker if name not in used]  # every op is needed
    outputs += draw(st.lists(st.sampled_from([v for v in values if v in used]), unique=True))
    dim: int | str = "N" if draw(st.booleans()) else SHAPE[0]
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [dim, SHAPE[1]])
            for n in values]  # fmt: skip
    by_name = {each.name: each for each in info}
    graph = helper.make_graph(
        nodes, "g", [by_name[n] for n in inputs], [by_name[n] for n in outputs]
    )
    opsets = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    names = ("toy", *NATIVE, *DEVICES)
    backends = draw(st.lists(st.sampled_from(names), min_size=5, max_size=5))
    return proto, backends, stages


def cut_plan(model: Model, backends: list[str], stages: list[int]) -> Plan:
    parts = [(b, [f"n{i}" for i, s in enumerate(stages) if s == k]) for k, b in enumerate(backends)]
    shapes = {spec.name: SHAPE for spec in model.inputs}
    return staged_plan(model, [(b, ops) for b, ops in parts if ops], shapes)


# onnx.reference's Sigmoid takes exp of all values, and uses none that overflow
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@settings(max_examples=80, deadline=None)
@given(cut=cut_graphs(), seed=st.integers(0, 2**32 - 1), limit=st.sampled_from((0, 2**23)))
def test_staged_is_whole(
    cut: tuple[onnx.ModelProto, list[str], list[int]], seed: int, limit: int
) -> None:
    proto, backends, stages = cut
    model = Model.load(proto)
    rng = np.random.default_rng(seed)

    def feed() -> dict[str, Array]:
        return {s.name: rng.standard_normal(SHAPE).astype(np.float32) for s in model.inputs}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(staged, "COPY_LIMIT_BYTES", limit)
        with Session(model, [cut_plan(model, backends, stages)], runtime=SHARED_RUNTIME) as session:
            _check_calls(session, proto, [feed() for _ in range(3)])
            _check_bound(session, proto, [feed() for _ in range(3)])


def _check_calls(
    session: Session, proto: onnx.ModelProto, feeds: Sequence[dict[str, Array]]
) -> None:
    """Runs on different inputs: right, inputs as they were, outputs the caller's own for good."""
    earlier: list[Array] = []
    kept: list[Array] = []
    for fed in feeds:
        before = {name: array.copy() for name, array in fed.items()}
        expected = answers(proto, before)
        outputs: Any = session.run(fed)
        assert outputs.keys() == expected.keys()
        for name, array in expected.items():
            close(outputs[name], array)
        for name, array in fed.items():
            np.testing.assert_array_equal(array, before[name])
        made = list(outputs.values())
        for a, b in itertools.combinations([*made, *fed.values(), *earlier], 2):
            assert not np.shares_memory(a, b)
        earlier += made
        kept += [array.copy() for array in made]
    for array, copy in zip(earlier, kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def _check_bound(
    session: Session, proto: onnx.ModelProto, feeds: Sequence[dict[str, Array]]
) -> None:
    """Runs on arrays written in place, every second output into a given one."""
    arrays = {name: array.copy() for name, array in feeds[0].items()}
    names = [v.name for v in proto.graph.output]
    targets = {name: np.zeros(SHAPE, np.float32) for name in names[::2]}
    bound = session.bind(arrays, targets)
    for fed in feeds:
        for name, array in fed.items():
            arrays[name][...] = array
        outputs: Any = bound.run()
        for name, array in answers(proto, fed).items():
            close(outputs[name], array)
            assert name not in targets or outputs[name] is targets[name]
        for name, array in fed.items():
            np.testing.assert_array_equal(arrays[name], array)


# --- ways of values -----------------------------------------------------------------------------


def requests_of(loaded: LoadedPlan) -> StagedRequest:
    request = loaded.request()
    assert isinstance(request, StagedRequest)
    return request


def x_of(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape or SHAPE).astype(np.float32)


PASSED = """
    g (float[2, 3] x) => (float[2, 3] y, float[2, 3] x, float[2] k, float[2, 3] a) {
        a = Tanh(x)
        y = Exp(a)
    }
"""


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations((*NATIVE, "toy"), 2)))
def test_outputs_that_are_inputs_constants_or_intermediates(
    runtime: Runtime, first: str, second: str
) -> None:
    k = np.array([3.0, 4.0], np.float32)
    model, plan = chained(models.with_weights(models.parse(PASSED), k=k), first, second)
    with Session(model, [plan], runtime=runtime) as session:
        for seed in range(3):
            x = x_of(seed)
            outputs: Any = session.run({"x": x})
            assert list(outputs) == ["y", "x", "k", "a"]
            close(outputs["a"], np.tanh(x))
            close(outputs["y"], np.exp(np.tanh(x)))
            np.testing.assert_array_equal(outputs["x"], x)
            np.testing.assert_array_equal(outputs["k"], k)
            assert not np.shares_memory(outputs["x"], x)
            outputs["k"][:] = np.nan
        targets = {"x": np.zeros(SHAPE, np.float32), "k": np.zeros(2, np.float32)}
        bound = session.bind({"x": x}, targets)
        assert bound.run()["x"] is targets["x"]
        np.testing.assert_array_equal(targets["x"], x)
        np.testing.assert_array_equal(targets["k"], k)
        free = session.bind({"x": x})
        np.testing.assert_array_equal(tensor(free.run(), "k"), k)
        assert not np.shares_memory(tensor(free.outputs, "x"), x)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations((*NATIVE, "toy"), 2)))
def test_an_output_buffer_may_be_an_inputs(runtime: Runtime, first: str, second: str) -> None:
    """The first stage must not write what the second still reads."""
    model, plan = chained(
        models.parse("""
            g (float[2, 3] x) => (float[2, 3] a, float[2, 3] y) {
                a = Neg(x)
                y = Mul(a, x)
            }
        """),
        first,
        second,
    )
    with Session(model, [plan], runtime=runtime) as session:
        x = x_of(0)
        bound = session.bind({"x": x}, {"a": x})
        for _ in range(3):
            before = x.copy()
            outputs: Any = bound.run()
            np.testing.assert_array_equal(x, -before)
            assert outputs["a"] is x
            close(outputs["y"], -before * before)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations((*NATIVE, "toy"), 2)))
def test_binding_again_keeps_the_rest(runtime: Runtime, first: str, second: str) -> None:
    model, plan = chained(models.parse(PASSED.replace(", float[2] k", "")), first, second)
    session = Session(model, [plan], runtime=runtime)
    loaded = session._hot.loaded
    request = requests_of(loaded)
    x1, x2, y = x_of(1), x_of(2), np.zeros(SHAPE, np.float32)
    request.bind({"x": x1}, {})
    request.run()
    close(tensor(request.outputs), np.exp(np.tanh(x1)))
    request.bind({}, {"y": HostBuffer(y)})
    request.run()
    close(y, np.exp(np.tanh(x1)))
    assert isinstance(request.outputs["y"], HostBuffer)
    request.bind({"x": x2}, {})
    request.run()
    close(y, np.exp(np.tanh(x2)))
    close(tensor(request.outputs, "a"), np.tanh(x2))
    (called,) = request.call({"x": x1}, ["y"])  # another way, with buffers of its own
    assert isinstance(called, np.ndarray)
    close(called, np.exp(np.tanh(x1)))
    close(y, np.exp(np.tanh(x2)))
    session.close()


@pytest.mark.parametrize("first", ["onnxruntime", "toy"])
@pytest.mark.parametrize("second", ["onnxruntime", "toy"])
def test_sequences_and_tensors_go_on_together(runtime: Runtime, first: str, second: str) -> None:
    model = Model.load(
        models.parse("""
            g (float[2, 3] x, int64 i) => (float[N, M] y, seq(float[2, 3]) s) {
                a = Neg(x)
                s = SequenceConstruct(x, a)
                e = SequenceAt(s, i)
                y = Add(e, a)
            }
        """)
    )
    neg, construct, at, add = OpGraph.build(model).ids
    plan = staged_plan(model, [(first, [neg, construct]), (second, [at, add])])
    with Session(model, [plan], runtime=runtime) as session:
        bound = session.bind({"x": x_of(9), "i": np.array(0, np.int64)})
        for seed, i in enumerate((0, 1, 1)):
            x, index = x_of(seed), np.array(i, np.int64)
            outputs: Any = session.run({"x": x, "i": index})
            close(outputs["y"], (x, -x)[i] - x)
            assert len(outputs["s"]) == 2
            tensor(bound.inputs, "x")[...] = x
            tensor(bound.inputs, "i")[...] = i
            close(tensor(bound.run()), (x, -x)[i] - x)


@pytest.mark.parametrize(
    ("first", "second"), [("onnxruntime", "toy"), ("onnxruntime", "onnxruntime")]
)
def test_strings_go_on(runtime: Runtime, first: str, second: str) -> None:
    model, plan = chained(
        models.parse("""
            g (string[3] x) => (string[3] y) <string[3] a> {
                a = Identity(x)
                y = Identity(a)
            }
        """),
        first,
        second,
    )
    words = np.array(["a", "böse", ""], dtype=object)
    with Session(model, [plan], runtime=runtime) as session:
        for text in (words, words[::-1].copy()):
            assert list(tensor(session.run({"x": text}))) == list(text)


@pytest.mark.parametrize(("first", "second"), list(itertools.product((*NATIVE, "toy"), repeat=2)))
def test_open_shapes_beside_fixed_ones(runtime: Runtime, first: str, second: str) -> None:
    """NonZero gives as many columns as there are non-zeros; the rest has buffers."""
    model = Model.load(
        models.parse("""
            g (float[2, 3] x) => (float[2, 3] y, int64[2, K] z) {
                a = Relu(x)
                n = NonZero(a)
                y = Exp(a)
                z = Add(n, n)
            }
        """)
    )
    relu, nonzero, exp, add = OpGraph.build(model).ids
    plan = staged_plan(model, [(first, [relu, nonzero]), (second, [exp, add])])
    with Session(model, [plan], runtime=runtime) as session:
        bound = session.bind({"x": x_of(0)})
        for seed in range(5):
            x = x_of(seed)
            expected = 2 * np.array(np.nonzero(np.maximum(x, 0)))
            outputs: Any = session.run({"x": x})
            np.testing.assert_array_equal(outputs["z"], expected)
            close(outputs["y"], np.exp(np.maximum(x, 0)))
            tensor(bound.inputs, "x")[...] = x
            np.testing.assert_array_equal(tensor(bound.run(), "z"), expected)


@pytest.mark.parametrize("backends", list(itertools.permutations(NATIVE)))
def test_large_values(
    runtime: Runtime, backends: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large inputs are read in place and large outputs are written to arrays for the caller."""
    monkeypatch.setattr(staged, "COPY_LIMIT_BYTES", 8)
    model, plan = chained(models.parse(PASSED.replace(", float[2] k", "")), *backends)
    with Session(model, [plan], runtime=runtime) as session:
        x = x_of(0)
        first: Any = session.run({"x": x})
        x[...] = x_of(1)  # the same array with other contents
        second: Any = session.run({"x": x})
        only: Any = session.run({"x": x}, ["a"])  # y isn't asked for, and goes to nobody's array
        strided = np.asfortranarray(x_of(2))
        third: Any = session.run({"x": strided})
        strided[...] = x_of(3)
        fourth: Any = session.run({"x": strided})
    for seed, outputs in enumerate((first, second, third, fourth)):
        close(outputs["a"], np.tanh(x_of(seed)))
        close(outputs["y"], np.exp(np.tanh(x_of(seed))))
    close(only["a"], np.tanh(x_of(1)))


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(NATIVE)))
@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_scalars_and_empty_tensors(
    runtime: Runtime, first: str, second: str, shape: tuple[int, ...]
) -> None:
    dims = ", ".join(map(str, shape))
    proto = models.parse(f"g (float[{dims}] x) => (float[{dims}] y) {{ a = Neg(x) y = Exp(a) }}")
    for value in (*proto.graph.input, *proto.graph.output):  # "[]" is an unknown rank to the parser
        value.type.tensor_type.shape.SetInParent()
    model, plan = chained(proto, first, second)
    with Session(model, [plan], runtime=runtime) as session:
        for seed in range(2):
            x = np.full(shape, seed, np.float32)
            close(tensor(session.run({"x": x})), np.exp(-x))
            close(tensor(session.bind({"x": x}).run()), np.exp(-x))


def test_a_buffer_of_another_shape_is_refused(runtime: Runtime) -> None:
    proto = models.parse("""
        g (float[N] x, float[2] w) => (float[M] y, float[N] x) {
            a = Neg(x)
            y = Concat<axis = 0>(a, w)
        }
    """)
    model, plan = chained(proto, *NATIVE)
    with Session(model, [plan], runtime=runtime) as session:
        feeds: dict[str, Value] = {"x": x_of(0, 4), "w": x_of(1, 2)}
        bound = session.bind(feeds, {"x": np.zeros(3, np.float32)})
        with pytest.raises(InputError, match="shape"):
            bound.run()


# --- times --------------------------------------------------------------------------------------


def test_times_by_stage(runtime: Runtime, toy: ToyBackend) -> None:
    def slow(outputs: dict[str, Value]) -> dict[str, Value]:
        time.sleep(0.02)
        return outputs

    toy.during = slow
    proto = models.dense("4")
    model = Model.load(proto)
    ops = OpGraph.build(model).ids
    plan = staged_plan(model, [("onnxruntime", ops[:1]), ("toy", ops[1:3]), ("openvino", ops[3:])])
    x, y = x_of(0, 4, 8), np.zeros((4, 8), np.float32)
    with Session(model, [plan], runtime=runtime) as session:
        request = requests_of(session._hot.loaded)
        request.bind({"x": x}, {"y": y})
        request.run()
        times_ms = request.run_timed()
        close(y, models.dense_output(proto, x))
    assert len(times_ms) == 3
    assert times_ms[1] >= 20 > times_ms[0] > 0
    assert times_ms[2] > 0


def test_times_of_one_stage(runtime: Runtime) -> None:
    proto = models.dense("4")
    model = Model.load(proto)
    plan = plan_for(model)
    loaded = load(plan, model, runtime, {plan.stages[0].name: model})
    request = loaded.request()
    x, y = x_of(0, 4, 8), np.zeros((4, 8), np.float32)
    request.bind({"x": x}, {"y": y})
    (time_ms,) = request.run_timed()
    close(y, models.dense_output(proto, x))
    assert time_ms > 0
    loaded.close()
