"""Functions of a model: what they become is of the op that calls them."""

from __future__ import annotations

import numpy as np
from onnx import parser

from dioe.graph import Model
from dioe.types import Precision, Precisions, Resources
from dioe_torch.backend import TorchBackend
from dioe_torch.program import program_of

HEAD = '<ir_version: 9, opset_import: ["": 20, "own": 1]>'
NESTED = """ g (float[2,3] x, float[3] w) => (float[2,3] y) {
  h = Neg(x)
  q = own.outer(h, w)
  y = own.inner<alpha = 0.5>(q, w)
}
<opset_import: ["": 20], domain: "own">
inner <alpha: float = 0.1> (a, b) => (c) { t = LeakyRelu<alpha: float = @alpha>(a) c = Add(t, b) }
<opset_import: ["": 20, "own": 1], domain: "own">
outer (a, b) => (c) { n = Exp(a) t = own.inner(n, b) c = Mul(t, a) }
"""


def test_what_a_call_becomes_has_its_id_and_its_precision() -> None:
    model = Model.load(parser.parse_model(HEAD + NESTED))
    precisions = Precisions(Precision.BF16, {"q": Precision.FP32})
    found = [(op.id, op.type, op.precision) for op in program_of(model, precisions).ops]
    assert found == [
        ("h", "Neg", "bf16"),
        *(("q", kind, "fp32") for kind in ("Exp", "LeakyRelu", "Add", "Mul")),
        *(("y", kind, "bf16") for kind in ("LeakyRelu", "Add")),
    ]


def test_functions_compute() -> None:
    proto = parser.parse_model(HEAD + NESTED)
    rng = np.random.default_rng(3)
    feeds = {"x": rng.standard_normal((2, 3), np.float32), "w": rng.standard_normal(3, np.float32)}
    context = TorchBackend().open("cpu", Resources(threads=1))
    request = context.compile(Model.load(proto), Precisions(), {}).request()
    request.bind(feeds)
    request.run().wait()
    h = -feeds["x"]
    q = (np.exp(h) + feeds["w"]) * h
    wanted = np.where(q < 0, 0.5 * q, q) + feeds["w"]
    found = request.outputs["y"]
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_call_of_what_cannot_be_lowered_is_refused() -> None:
    model = Model.load(
        parser.parse_model(
            HEAD
            + """ g (float[2] x) => (float[2] y) { h = Neg(x) y = own.f(h) }
            <opset_import: ["": 20, "own": 1], domain: "own">
            f (a) => (c) { t = own.Unknown(a) c = Neg(t) }"""
        )
    )
    support = TorchBackend().query(model, "cpu", Precision.FP32)
    assert support.supported == {"h"}
    assert "Unknown" in support.refused["y"]
