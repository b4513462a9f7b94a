"""Two small models, cut by hand into stages on two cards and the host, and what each cut copies.

For the simulated ``mlu:0`` and ``mlu:1``, in this process or behind a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import numpy_helper, parser

from dioe.graph import Model, OpGraph
from dioe.precision import compare
from dioe.runtime import Runtime, Session
from dioe.types import Array, Plan
from tests.backend.cases import floats
from tests.toys.stages import staged_plan

RUNS = 3
LIMIT = 1e-4
HOST, FIRST, SECOND = "cpu", "mlu:0", "mlu:1"

Counted = Mapping[str, Mapping[str, tuple[int, int]]]
"""By purpose (planned, fallback) and way (h2d, d2h, d2d, p2p): copies, and bytes in all."""

Way = tuple[str, str, str]
"""A value, and the devices it is copied from and to."""

CNN = """<ir_version: 9, opset_import: ["": 18]>
g (float[1,3,16,16] image) => (float[1,10] scores) {
  stem = Conv <kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]> (image, w0, b0)
  normed = BatchNormalization (stem, scale, bias, mean, var)
  active = Relu (normed)
  pooled = MaxPool <kernel_shape = [2,2], strides = [2,2]> (active)
  c1 = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (pooled, w1, b1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (r1, w2, b2)
  sum = Add (c2, pooled)
  r2 = Relu (sum)
  means = GlobalAveragePool (r2)
  flat = Flatten (means)
  scores = Gemm (flat, w3, b3)
}"""
CNN_WEIGHTS = {
    "w0": (8, 3, 3, 3), "b0": (8,), "scale": (8,), "bias": (8,), "mean": (8,), "var": (8,),
    "w1": (8, 8, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (8, 10), "b3": (10,),
}  # fmt: skip

BLOCK = """<ir_version: 9, opset_import: ["": 18]>
g (float[1,6,16] x) => (float[1,6,16] y) {
  normed = LayerNormalization <axis = -1> (x, gamma, beta)
  q = MatMul (normed, wq)
  k = MatMul (normed, wk)
  v = MatMul (normed, wv)
  kt = Transpose <perm = [0,2,1]> (k)
  scores = MatMul (q, kt)
  scaled = Mul (scores, quarter)
  weights = Softmax <axis = -1> (scaled)
  mixed = MatMul (weights, v)
  first = Add (x, mixed)
  again = LayerNormalization <axis = -1> (first, gamma, beta)
  h = MatMul (again, w1)
  divided = Div (h, root)
  erf = Erf (divided)
  shifted = Add (erf, one)
  product = Mul (h, shifted)
  gelu = Mul (product, half)
  o = MatMul (gelu, w2)
  y = Add (first, o)
}"""
BLOCK_WEIGHTS = {
    "wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "gamma": (16,), "beta": (16,),
    "w1": (16, 32), "w2": (32, 16),
}  # fmt: skip
BLOCK_NUMBERS = {"quarter": 0.25, "root": np.sqrt(2), "one": 1.0, "half": 0.5}


@dataclass(frozen=True)
class Case:
    """A model, a feed, and its stages: devices, and the ops on each by their outputs."""

    model: Model
    feed: dict[str, Array]
    stages: tuple[tuple[str, str], ...]

    def plan(self, on_cards: str) -> Plan:
        """The plan with its stages on cards by the backend named, those on the host by ONNX
        Runtime."""
        ops = {node.outputs[0].name: op for op, node in self._nodes()}
        parts = [
            (
                f"{device}/{'onnxruntime' if device == HOST else on_cards}",
                [ops[name] for name in names.split()],
            )
            for device, names in self.stages
        ]
        return staged_plan(self.model, parts)

    def _nodes(self) -> list[tuple[str, Any]]:
        return list(zip(self.model.op_ids, self.model.ir.graph, strict=True))

    def expected(self) -> dict[str, Array]:
        """The outputs by ONNX Runtime alone."""
        session = ort.InferenceSession(self.model.to_bytes(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, self.feed), strict=True))

    def crossing(self, plan: Plan) -> dict[Way, int]:
        """What each run has to copy, by the partition alone, and the bytes. From card to card a
        value goes over the host; what several stages read in one memory is copied there once."""
        graph = OpGraph.build(self.model)
        homes = {op: stage.target.device for stage in plan.stages for op in stage.ops}
        makers = {value: op for op in graph.ops for value in graph.ops[op].outputs}
        outputs = {spec.name for spec in self.model.outputs}
        found: dict[Way, int] = {}
        for name in {v for stage in plan.stages for v in (*stage.inputs, *stage.outputs)}:
            home = homes[makers[name]] if name in makers else HOST
            readers = {stage.target.device for stage in plan.stages if name in stage.inputs}
            nbytes = graph.values[name].nbytes
            assert nbytes is not None
            if home != HOST and (name in outputs or readers - {home}):
                found[name, home, HOST] = nbytes
            found.update({(name, HOST, card): nbytes for card in readers - {home, HOST}})
        return found


def _weighted(text: str, shapes: Mapping[str, tuple[int, ...]], **numbers: float) -> Model:
    """The model of a text with random weights, scaled so that values keep their size."""
    random = np.random.default_rng(11)
    proto = parser.parse_model(text)
    for name, shape in shapes.items():
        fan_in = int(np.prod(shape[1:] if len(shape) == 4 else shape[:1]))
        weight = random.normal(0, fan_in**-0.5, shape)
        if name in ("scale", "var", "gamma"):
            weight = random.uniform(0.5, 1.5, shape)
        proto.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), name))
    for name, number in numbers.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), name))
    return Model.load(proto)


CASES: dict[str, Callable[[], Case]] = {
    "cnn": lambda: Case(
        _weighted(CNN, CNN_WEIGHTS),
        {"image": floats(1, 3, 16, 16)},
        (
            (FIRST, "stem normed"),
            (FIRST, "active pooled"),  # what it reads never leaves the card
            (SECOND, "c1 r1 c2"),
            (HOST, "sum r2"),
            (SECOND, "means flat"),
            (FIRST, "scores"),
        ),
    ),
    "transformer": lambda: Case(
        _weighted(BLOCK, BLOCK_WEIGHTS, **BLOCK_NUMBERS),
        {"x": floats(1, 6, 16)},
        (
            (FIRST, "normed q k v"),
            (SECOND, "kt scores scaled"),
            (HOST, "weights"),
            (SECOND, "mixed first"),
            (SECOND, "again h"),
            (FIRST, "divided erf shifted product gelu"),
            (HOST, "o y"),
        ),
    ),
}


def check_plan(case: Case, runtime: Runtime, on_cards: str, counted: Callable[[], Counted]) -> None:
    """Run the plan: right outputs, transfers that come to what the partition says, and devices
    that counted those copies as planned and no others, whatever their operators fell back to."""
    plan, expected = case.plan(on_cards), case.expected()
    wanted = case.crossing(plan)
    with Session(case.model, [plan], runtime=runtime) as session:
        session.run(case.feed)  # what it loads once, weights among it, is no run's
        before, loaded = counted(), dict(_transfers(session))
        for _ in range(RUNS):
            found = compare(session.run(case.feed), expected)
            assert found.error <= LIMIT, str(found)
        after, moved = counted(), _transfers(session)
    assert moved.keys() == wanted.keys()
    for way, nbytes in wanted.items():
        assert moved[way] == (loaded[way][0] + RUNS, nbytes), way
    planned = _since(before["planned"], after["planned"])
    for direction, ways in (
        ("h2d", [way for way in wanted if way[1] == HOST]),
        ("d2h", [way for way in wanted if way[2] == HOST]),
    ):
        nbytes = sum(wanted[way] for way in ways)
        assert planned[direction] == (RUNS * len(ways), RUNS * nbytes), direction
    assert planned["p2p"] == (0, 0)
    # each result of a stage on a card goes to its buffer there; the next stage reads it in place
    results = _results(case, plan)
    assert planned["d2d"] == (RUNS * len(results), RUNS * sum(results))
    fallback = _since(before["fallback"], after["fallback"])
    assert fallback["h2d"][0] > 0
    assert fallback["d2h"][0] > 0


def _results(case: Case, plan: Plan) -> list[int]:
    """Bytes of each output of the stages on cards."""
    values = OpGraph.build(case.model).values
    on_cards = [stage for stage in plan.stages if stage.target.device != HOST]
    return [values[name].nbytes or 0 for stage in on_cards for name in stage.outputs]


def _transfers(session: Session) -> dict[Way, tuple[int, int]]:
    """How often a run copied each value, and the bytes of one copy."""
    return {(t.value, t.source, t.destination): (t.count, t.nbytes) for t in session.transfers}


def _since(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    return {
        way: (count - before[way][0], nbytes - before[way][1])
        for way, (count, nbytes) in after.items()
    }
