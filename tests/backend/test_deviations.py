"""What OpenVINO leaves out of an op is refused, and only that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from dioe.graph import Model
from dioe.precision import relative_l2
from dioe.types import Array, Backend, Precision, UnsupportedError
from dioe_openvino.deviations import deviation
from tests.backend.cases import rng
from tests.backend.conftest import BACKENDS, Compile

PICTURE, ANY = "float[1,1,6,6] x", "float[A,B,C,D] y"


@dataclass(frozen=True)
class Case:
    """A graph, and a word of the reason it is refused for; none where it is taken.

    ``shapes`` are those of the data where the graph leaves dimensions open. ``shown``: whether
    random data show that OpenVINO is wrong.
    """

    text: str
    reason: str = ""
    opset: int = 20
    shapes: tuple[tuple[int, ...], ...] = ()
    shown: bool = True

    @property
    def model(self) -> Model:
        header = f'<ir_version: 10, opset_import: ["": {self.opset}]>'
        return Model.load(parser.parse_model(f"{header}\n{self.text}"))

    def feeds(self, made: Model) -> dict[str, Any]:
        """Normal data, wide enough for what float8 can't hold; twos where integers are asked."""
        data: dict[str, Any] = {}
        for i, spec in enumerate(made.inputs):
            known = tuple(d for d in spec.shape or () if isinstance(d, int))
            shape = self.shapes[i] if self.shapes else known
            values = np.asarray(rng(i).standard_normal(shape))
            wide = 1e6 if "saturate" in self.reason else 1
            data[spec.name] = (
                np.full(shape, 2) if spec.dtype.kind == "i" else (values * wide).astype(spec.dtype)
            )
        return data


def lstm(attributes: str = "", peepholes: str = "") -> str:
    made = f"p = Constant<value = float[1,12] {{{peepholes}}}>()" if peepholes else ""
    given = ",,,,,p" if peepholes else ""
    return (
        "g (float[5,2,3] x, float[1,16,3] w, float[1,16,4] r) => (float[5,1,2,4] y) {"
        f" {made} y = LSTM<hidden_size = 4{attributes}>(x, w, r{given}) }}"
    )


def rnn(first: str, second: str) -> str:
    how = f'direction = "bidirectional", activations = ["{first}", "{second}"]'
    return (
        "g (float[5,2,3] x, float[2,4,3] w, float[2,4,4] r) => (float[5,2,2,4] y) {"
        f" y = RNN<hidden_size = 4, {how}>(x, w, r) }}"
    )


def resize(attributes: str, scales: str = "", sizes: str = "", shape: str = PICTURE) -> str:
    made = f"value = float[4] {{{scales}}}" if scales else f"value_ints = [{sizes}]"
    given = "x,,s" if scales else "x,,,s"
    return f"g ({shape}) => ({ANY}) {{ s = Constant<{made}>() y = Resize<{attributes}>({given}) }}"


def pool(op: str, kernel: int, stride: int, *more: str, shape: str = PICTURE) -> str:
    how = [f"kernel_shape = [{kernel},{kernel}]", f"strides = [{stride},{stride}]", *more]
    return f"g ({shape}) => ({ANY}) {{ y = {op}<ceil_mode = 1, {', '.join(how)}>(x) }}"


def attention(queries: int, keys: int, past: int, causal: int = 1) -> str:
    new, old = f"float[1,2,{keys},4]", f"float[1,2,{past},4]"
    return (
        f"g (float[1,2,{queries},4] q, {new} k, {new} v, {old} c, {old} d)"
        f" => (float[1,2,{queries},4] y, {ANY.replace('y', 'e')}, {ANY.replace('y', 'f')})"
        f" {{ y, e, f = Attention<is_causal = {causal}>(q, k, v, , c, d) }}"
    )


def dft(shape: str, axis: int | None = None, attributes: str = "") -> str:
    made = "" if axis is None else f"a = Constant<value_int = {axis}>()"
    given = "x" if axis is None else "x,,a"
    sizes = ",".join("ABCD"[: shape.count(",") + 1])
    return f"g (float[{shape}] x) => (float[{sizes}] y) {{ {made} y = DFT{attributes}({given}) }}"


def regions(mode: str) -> str:
    return (
        f"g ({PICTURE}) => ({ANY}) {{ r = Constant<value = float[1,4] {{0.5, 1, 5, 4}}>()"
        f' b = Constant<value_ints = [0]>() y = RoiAlign<mode = "{mode}", output_height = 2,'
        " output_width = 2, sampling_ratio = 2>(x, r, b) }"
    )


OPEN = "float[1,1,N,M] x"
PADS, COUNTED = "pads = [1,1,1,1]", "count_include_pad = 1"
SHRINKING = 'mode = "linear", antialias = 1'
FLOAT8 = "g (float[4] x{}) => (float8e4m3fn[4] y) {{ {} }}"

REFUSED = {
    "peepholes": Case(lstm(peepholes="0,0,0,0,0.5,0,0,0,0,0.1,0,0"), "peepholes"),
    "peepholes as data": Case(
        "g (float[5,2,3] x, float[1,16,3] w, float[1,16,4] r, float[1,12] p)"
        " => (float[5,1,2,4] y) { y = LSTM<hidden_size = 4>(x, w, r,,,,,p) }",
        "peepholes",
    ),
    "batch first": Case(lstm(", layout = 1"), "layout"),
    "coupled gates": Case(lstm(", input_forget = 1"), "input_forget"),
    "activations by direction": Case(rnn("Relu", "Tanh"), "both directions"),
    "antialias": Case(resize(SHRINKING, "1,1,0.5,0.5"), "antialias"),
    "antialias to sizes": Case(resize('mode = "cubic", antialias = 1', "", "1,1,7,4"), "antialias"),
    "antialias of anything": Case(
        resize(SHRINKING, "", "1,1,7,7", OPEN), "antialias", shapes=((1, 1, 9, 6),)
    ),
    "antialias by data": Case(
        f"g ({PICTURE}, int64[4] s) => ({ANY}) {{ t = Cast<to = 1>(s) h = Reciprocal(t)"
        f" o = Mul(h, t) k = Mul(o, h) y = Resize<{SHRINKING}>(x,,k) }}",
        "antialias", shown=False,
    ),
    "aspect": Case(
        resize('mode = "linear", keep_aspect_ratio_policy = "not_larger"', "", "1,1,9,12"),
        "keep_aspect_ratio_policy",
    ),
    "exclude_outside": Case(
        resize('mode = "cubic", exclude_outside = 1', "1,1,2,2"), "exclude_outside"
    ),
    "windows behind": Case(pool("MaxPool", 1, 2), "begin behind"),
    "windows behind pads": Case(pool("MaxPool", 2, 3, "pads = [0,0,1,1]"), "begin behind"),
    "windows perhaps behind": Case(
        pool("MaxPool", 1, 2, shape=OPEN), "begin behind", shapes=((1, 1, 6, 6),)
    ),
    "counted pads": Case(pool("AveragePool", 3, 2, PADS, COUNTED), "another count"),
    "causal after a past": Case(attention(2, 4, 3), "past's end", 23),
    "another axis": Case(dft("2,4,8,2", 2), "axis 1"),
    "axis by default": Case(dft("2,4,8,2"), "axis 1"),
    "onesided": Case(dft("2,8,1", 1, "<onesided = 1>"), "rank"),
    "maximum of regions": Case(regions("max"), "maximum"),
    "repeats by data": Case(
        "g (float[1,2,1,2] x, int64[4] r) => (float[A,B,C,D] y) { y = Tile(x, r) }",
        "repeats by data", shown=False,
    ),
    "repeats computed from data": Case(
        "g (float[2] x, int64[1] r) => (float[A] y) { s = Neg(r) t = Abs(s) y = Tile(x, t) }",
        "repeats by data", shown=False,
    ),
    "float8": Case(FLOAT8.format("", "y = Cast<to = 17>(x)"), "saturate"),
    "float8 like": Case(FLOAT8.format(", float8e4m3fn[1] l", "y = CastLike(x, l)"), "saturate"),
    "float8 in a branch": Case(
        FLOAT8.format(", bool c", "y = If (c) <"
        " then_branch = p () => (float8e4m3fn[4] t) { t = Cast<to = 17>(x) },"
        " else_branch = q () => (float8e4m3fn[4] e) { e = Cast<to = 17>(x) }>"),
        "saturate", shapes=((4,), ()),
    ),
}  # fmt: skip

TAKEN = {
    "no peepholes": Case(lstm()),
    "peepholes of zeros": Case(lstm(peepholes=",".join("0" * 12))),
    "alike in both directions": Case(rnn("Relu", "Relu")),
    "antialias that grows": Case(resize(SHRINKING, "1,1,2,1")),
    "antialias that grows one axis": Case(resize(SHRINKING + ", axes = [3]", "", "9")),
    "antialias of the nearest": Case(resize('mode = "nearest", antialias = 0', "1,1,0.5,0.5")),
    "no antialias": Case(resize('mode = "linear"', "1,1,0.5,0.5")),
    "cubic": Case(resize('mode = "cubic"', "1,1,2,2")),
    "windows inside": Case(pool("MaxPool", 3, 2)),
    "windows inside anything": Case(
        pool("MaxPool", 3, 2, shape=OPEN), shapes=((1, 1, 6, 7),)
    ),
    "windows that fit": Case(pool("MaxPool", 2, 3, PADS)),
    "no pads to count": Case(pool("AveragePool", 3, 2, COUNTED)),
    "counted pads that fit": Case(pool("AveragePool", 2, 2, PADS, COUNTED)),
    "uncounted pads": Case(pool("AveragePool", 3, 2, PADS)),
    "as many keys as queries": Case(attention(3, 3, 2), opset=23),
    "a past for all": Case(attention(2, 4, 3, causal=0), opset=23),
    "axis 1": Case(dft("2,8,3,2", 1)),
    "axis -2 of 3": Case(dft("2,8,2", -2)),
    "default axis of 3": Case(dft("2,8,2")),
    "axis in older opsets": Case(dft("2,4,8,2", attributes="<axis = 2>"), opset=18),
    "mean of regions": Case(regions("avg")),
    "known repeats": Case(
        "g (float[2] x) => (float[4] y) { r = Constant<value_ints = [2]>() y = Tile(x, r) }"
    ),
    "repeats by a shape": Case(
        "g (float[N] x) => (float[M] y) { r = Shape(x) y = Tile(x, r) }", shapes=((3,),)
    ),
    "float8 unsaturated": Case(FLOAT8.format("", "y = Cast<to = 17, saturate = 0>(x)")),
    "float8 quantised": Case(
        FLOAT8.format(", float s", "y = QuantizeLinear<output_dtype = 17>(x, s)"), opset=21
    ),
}  # fmt: skip


def computed(backend: Backend, compile_on: Compile, case: Case) -> Array:
    made = case.model
    request: Any = compile_on(backend, made).request()
    first, *_ = made.outputs
    found: Array = request.call(case.feeds(made), [first.name])[0]
    return found.astype(np.float32)


def expected(compile_on: Compile, case: Case) -> Array:
    """What ONNX Runtime makes of it, or onnx.reference where that can't."""
    runtime = BACKENDS["onnxruntime"]
    whole = runtime.query(case.model, "cpu", Precision.FP32).whole
    return computed(runtime if whole else BACKENDS["reference"], compile_on, case)


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_left_out_is_refused(openvino: Backend, compile_on: Compile, case: Case) -> None:
    made = case.model
    (reason,) = openvino.query(made, "cpu", Precision.FP32).refused.values()
    assert case.reason in reason
    assert "OpenVINO" in reason
    with pytest.raises(UnsupportedError, match=case.reason):
        compile_on(openvino, made)


@pytest.mark.parametrize("name", [name for name, case in REFUSED.items() if case.shown])
def test_it_has_to_be_refused_still(
    openvino: Backend, compile_on: Compile, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OpenVINO that computes it right fails this: its rule can go then."""
    monkeypatch.setattr("dioe_openvino.context._check_exactness", lambda _: None)
    found = computed(openvino, compile_on, REFUSED[name])
    right = expected(compile_on, REFUSED[name])
    assert found.shape != right.shape or relative_l2(found, right) > 1e-3


@pytest.mark.parametrize("case", TAKEN.values(), ids=TAKEN.keys())
def test_the_rest_is_taken_and_right(openvino: Backend, compile_on: Compile, case: Case) -> None:
    assert openvino.query(case.model, "cpu", Precision.FP32).whole
    found = computed(openvino, compile_on, case)
    assert relative_l2(found, expected(compile_on, case)) < 1e-5


# Ops of opsets that the oldest onnx DIOE runs with doesn't have.
NEWER: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "window": ("Attention", {"left_window_size": 2}, 25, "window of 'Attention'"),
    "no window": ("Attention", {"left_window_size": -1}, 25, ""),
    "columns first": ("SpaceToDepth", {"blocksize": 2, "mode": "CRD"}, 28, "as DCR, not as CRD"),
    "depth first": ("SpaceToDepth", {"blocksize": 2, "mode": "DCR"}, 28, ""),
    "unknown rank": ("DFT", {}, 20, "axis 1"),
}


@pytest.mark.parametrize(("op", "how", "opset", "reason"), NEWER.values(), ids=NEWER.keys())
def test_ops_as_they_are(op: str, how: dict[str, Any], opset: int, reason: str) -> None:
    node = ir.node(op, [ir.Value(name="x"), ir.Value(name="k")], how)
    assert deviation(node, opset) if reason else not deviation(node, opset)
    assert reason in deviation(node, opset)
    ours = ir.node(op, [ir.Value(name="x")], how, domain="of.its.own")
    assert not deviation(ours, 1)
