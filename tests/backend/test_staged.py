"""Plans over two native runtimes: the whole's outputs, nothing bound twice, no value copied."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model, OpGraph
from dioe.precision import compare
from dioe.registry import Registry
from dioe.runtime import Runtime, Session
from dioe.runtime.staged import StagedRequest
from dioe.types import Array, Feeds, Plan
from dioe_onnxruntime.executable import BoundRequest as OrtRequest
from tests.toys.plans import plan_for
from tests.toys.stages import staged_plan

SHAPE = (1, 3, 32, 48)
BACKENDS = ("onnxruntime", "openvino")
LIMIT = 1e-4


class Net:
    """A small convolutional network, layer by layer."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(5)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, array: Array) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def conv(
        self, x: str, into: int, out: int, size: int, *, group: int = 1, stride: int = 1
    ) -> str:
        shape = (out, into // group, size, size)
        scale = np.sqrt(2 / np.prod(shape[1:]))  # He: activations neither vanish nor explode
        weight = self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))
        bias = self.constant((self.rng.standard_normal(out) * 0.1).astype(np.float32))
        pads = [size // 2] * 4
        return self.add("Conv", x, weight, bias, pads=pads, strides=[stride] * 2, group=group)

    def gate(self, x: str, channels: int) -> str:
        """Squeeze and excitation."""
        pooled = self.add("GlobalAveragePool", x)
        hidden = self.add("Relu", self.conv(pooled, channels, channels // 4, 1))
        gate = self.add("HardSigmoid", self.conv(hidden, channels // 4, channels, 1))
        return self.add("Mul", x, gate)


def detector() -> onnx.ModelProto:
    """Like PP-OCR's detector, but small: a gated backbone, two scales joined, a map as output."""
    net = Net()
    stem = net.add("HardSwish", net.conv("x", 3, 8, 3, stride=2))
    fine = net.gate(net.add("HardSwish", net.conv(stem, 8, 8, 3, group=8)), 8)
    halved = net.add("MaxPool", fine, kernel_shape=[2, 2], strides=[2, 2])
    coarse = net.add("Relu", net.conv(halved, 8, 16, 3))
    narrow = net.conv(coarse, 16, 8, 1)
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    up = net.add("Resize", narrow, "", scales, mode="nearest")
    joined = net.add("Concat", up, fine, axis=1)
    logits = net.conv(net.add("Relu", net.conv(joined, 16, 8, 3)), 8, 1, 1)
    score = net.add("Sigmoid", logits)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        net.nodes,
        "detector",
        [info("x", TensorProto.FLOAT, SHAPE)],
        [
            info(score, TensorProto.FLOAT, (1, 1, 16, 24)),
            info(coarse, TensorProto.FLOAT, (1, 16, 8, 12)),  # an intermediate too
        ],
        net.weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime(Registry())
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(detector())


def cut(model: Model, first: str, stages: int = 4) -> Plan:
    """Stages of about as many ops each, by turns on the two backends."""
    ops = OpGraph.build(model).ids
    edges = [round(i * len(ops) / stages) for i in range(stages + 1)]
    turns = itertools.cycle((first, *(b for b in BACKENDS if b != first)))
    parts = [(next(turns), ops[a:b]) for a, b in itertools.pairwise(edges)]
    return staged_plan(model, parts)


def feed(seed: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).random(SHAPE, np.float32)}


@pytest.fixture
def answers(model: Model, runtime: Runtime) -> list[dict[str, Any]]:
    """What the whole model gives for the feeds of some seeds."""
    with Session(model, [plan_for(model)], runtime=runtime) as session:
        return [dict(session.run(feed(seed))) for seed in range(4)]


class Binds(Counter[str]):
    """How often each runtime's requests were given a buffer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        for method in ("set_input_tensor", "set_output_tensor"):
            self._count(monkeypatch, ov.InferRequest, method)
        self._count(monkeypatch, OrtRequest, "bind")

    def _count(self, monkeypatch: pytest.MonkeyPatch, kind: type, method: str) -> None:
        plain = getattr(kind, method)

        def counted(*arguments: Any, **named: Any) -> Any:
            self[method] += 1
            return plain(*arguments, **named)

        monkeypatch.setattr(kind, method, counted)


@pytest.fixture
def binds(monkeypatch: pytest.MonkeyPatch) -> Binds:
    return Binds(monkeypatch)


@pytest.mark.parametrize("first", BACKENDS)
def test_four_stages_by_turns(
    model: Model, runtime: Runtime, binds: Binds, answers: list[dict[str, Any]], first: str
) -> None:
    """Right, with nothing bound after the first run."""
    plan = cut(model, first)
    assert [stage.target.backend for stage in plan.stages[:2]] == [
        first,
        *(b for b in BACKENDS if b != first),
    ]
    with Session(model, [plan], runtime=runtime) as session:
        session.run(feed(9))
        assert binds.keys() == {"set_input_tensor", "set_output_tensor", "bind"}
        binds.clear()
        for _ in range(3):
            for seed, expected in enumerate(answers):
                fed = feed(seed)
                outputs = session.run(fed)
                assert compare(outputs, expected).error <= LIMIT
                np.testing.assert_array_equal(fed["x"], feed(seed)["x"])
        assert not binds


@pytest.mark.parametrize("first", BACKENDS)
def test_preset_buffers(
    model: Model, runtime: Runtime, binds: Binds, answers: list[dict[str, Any]], first: str
) -> None:
    """The caller's arrays are read and written in place, with nothing bound between runs."""
    with Session(model, [cut(model, first)], runtime=runtime) as session:
        x = feed(0)["x"]
        targets = {n: np.zeros_like(a) for n, a in answers[0].items()}
        bound = session.bind({"x": x}, targets)
        binds.clear()
        for seed, expected in enumerate(answers):
            x[...] = feed(seed)["x"]
            outputs = bound.run()
            assert compare(targets, expected).error <= LIMIT
            assert all(outputs[name] is target for name, target in targets.items())
        assert not binds


def test_times_of_four_stages(
    model: Model, runtime: Runtime, answers: list[dict[str, Any]]
) -> None:
    with Session(model, [cut(model, "openvino")], runtime=runtime) as session:
        request = session._hot.loaded.request()
        assert isinstance(request, StagedRequest)
        fed: Feeds = feed(1)
        request.bind(fed, {})
        times_ms = request.run_timed()
        assert len(times_ms) == 4
        assert min(times_ms) > 0
        assert compare(request.outputs, answers[1]).error <= LIMIT


def test_threads_share_four_stages(
    model: Model, runtime: Runtime, answers: list[dict[str, Any]]
) -> None:
    with Session(model, [cut(model, "openvino")], runtime=runtime) as session:

        def work(worker: int) -> float:
            seeds = [(worker + i) % len(answers) for i in range(20)]
            return max(compare(session.run(feed(s)), answers[s]).error for s in seeds)

        with ThreadPoolExecutor(4) as pool:
            assert max(pool.map(work, range(8))) <= LIMIT
