"""Floating-point operations and memory traffic of an op, from its attributes and shapes.

Conventions, so that figures can be compared with others':

- a multiply-add is 2 FLOPs; integer arithmetic counts like floating-point arithmetic;
- an addition, multiplication, division, comparison, selection, root or transcendental function is 1
  FLOP an element; composed functions count the steps of their definition (``Sigmoid`` 4: negate,
  exp, add, divide; ``Softmax`` 5: max, subtract, exp, sum, divide);
- padding is counted as if it were computed, sparsity is not exploited;
- moving, reshaping, casting and indexing data is 0 FLOPs;
- a body counts as often as it runs: the taken branch of an ``If``, or the dearest whose cost is
  known where that isn't; ``Loop`` and ``Scan`` their trip count times.

None means unknown: a dimension is, or the op is of no family below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dioe.types import Precision

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpShapes:
    """An op with the shapes of its inputs and outputs: None for an absent or unknown one.

    ``op_type`` is ``domain::type`` for ops that are not of the default domain.
    """

    op_type: str
    attributes: Mapping[str, Any]
    inputs: Sequence[Shape | None]
    outputs: Sequence[Shape | None]

    def input(self, index: int) -> Shape:
        """The shape of an input; raises Unknown where it isn't known or the input is absent."""
        shape = self.inputs[index] if index < len(self.inputs) else None
        if shape is None:
            raise Unknown
        return shape

    def output(self, index: int = 0) -> Shape:
        """The shape of an output; raises Unknown where it isn't known."""
        shape = self.outputs[index] if index < len(self.outputs) else None
        if shape is None:
            raise Unknown
        return shape

    def has(self, index: int) -> bool:
        """Whether an optional input is there, with a known shape."""
        return index < len(self.inputs) and self.inputs[index] is not None


class Unknown(Exception):
    """A shape that a cost depends on isn't known."""


Rule = Callable[[OpShapes], int]


def flops(op: OpShapes) -> int | None:
    """FLOPs of one run of an op; None where a shape or the op's family isn't known."""
    rule = _RULES.get(op.op_type)
    if rule is None:
        return None
    try:
        return rule(op)
    except (Unknown, ValueError, IndexError):
        # Of a rank that the op refuses: a branch that these shapes never take can have such.
        return None


def attributes(node: ir.Node) -> dict[str, Any]:
    """Plain values of a node's attributes, references left out."""
    return {name: a.value for name, a in node.attributes.items() if not a.is_ref()}


# --- linear algebra ---------------------------------------------------------------------------


def _conv(data: int, weight: int, bias: int | None) -> Rule:
    def rule(op: OpShapes) -> int:
        out, kernel = op.output(), op.input(weight)
        work = 2 * math.prod(out) * math.prod(kernel[1:])  # (outputs, inputs / groups, kernel)
        return work + (math.prod(out) if bias is not None and op.has(bias) else 0)

    return rule


def _conv_transpose(op: OpShapes) -> int:
    kernel = op.input(1)  # (inputs, outputs / groups, kernel): each input element goes to all
    work = 2 * math.prod(op.input(0)) * math.prod(kernel[1:])
    return work + (math.prod(op.output()) if op.has(2) else 0)


def _deform_conv(op: OpShapes) -> int:
    out, kernel = op.output(), op.input(1)
    # Each tap is a bilinear sample of four points: 3 multiply-adds and 2 weights more.
    taps = math.prod(out[2:]) * out[0] * op.input(0)[1] * math.prod(kernel[2:])
    return 2 * math.prod(out) * math.prod(kernel[1:]) + 8 * taps


def _matmul(a: int, b: int) -> Rule:
    def rule(op: OpShapes) -> int:
        left, right = op.input(a), op.input(b)
        if not left or not right:
            raise Unknown
        return 2 * math.prod(op.output()) * left[-1]

    return rule


def _fused_matmul(op: OpShapes) -> int:
    left = op.input(0)
    depth = left[-2] if op.attributes.get("transA") else left[-1]
    return 2 * math.prod(op.output()) * depth


def _matmul_nbits(op: OpShapes) -> int:
    return 2 * math.prod(op.output()) * int(op.attributes["K"])


def _gemm(op: OpShapes) -> int:
    rows, columns = op.output()
    depth = op.input(0)[0 if op.attributes.get("transA") else 1]
    return 2 * rows * columns * depth + (rows * columns if op.has(2) else 0)


def _einsum(op: OpShapes) -> int:
    equation = str(op.attributes["equation"]).replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if "..." in equation:
        raise Unknown
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        sizes.update(zip(term, op.input(index), strict=True))
    return 2 * math.prod(sizes.values()) if len(terms) > 1 else math.prod(sizes.values())


def _recurrent(gates: int, pointwise: int) -> Rule:
    """``pointwise``: FLOPs per hidden unit and step besides the matrix products and biases."""

    def rule(op: OpShapes) -> int:
        first, batch, features = op.input(0)  # layout changes their order, not their product
        directions = op.input(1)[0]
        hidden = op.input(2)[-1]
        steps = first * batch * directions
        products = 2 * gates * hidden * (features + hidden)
        biases = 2 * gates * hidden if op.has(3) else 0
        return steps * (products + biases + pointwise * hidden)

    return rule


def _attention(op: OpShapes) -> int:
    query, key, value = op.input(0), op.input(1), op.input(2)
    if len(query) == 4:
        batch, heads, rows, width = query
        columns, value_width = key[2], value[3]
    else:
        batch, rows, width = query
        heads, columns = 1, key[1]
        value_width = value[2]
        # Packed heads: the products sum to the packed width, the softmax runs once for each head.
        heads_of = int(op.attributes.get("q_num_heads", 1))
        scores = batch * heads_of * rows * columns
        return 2 * batch * rows * columns * (width + value_width) + 6 * scores
    scores = batch * heads * rows * columns
    return 2 * scores * (width + value_width) + 6 * scores


# --- everything that goes element by element --------------------------------------------------


def _each_output(weight: int) -> Rule:
    return lambda op: weight * math.prod(op.output())


def _variadic(op: OpShapes) -> int:
    """``Sum`` of n inputs is n - 1 additions an element; ``Mean`` a division more."""
    steps = len(op.inputs) - (op.op_type != "Mean")
    return steps * math.prod(op.output())


def _pool(op: OpShapes) -> int:
    return math.prod(op.output()) * int(math.prod(op.attributes["kernel_shape"]))


def _lp_pool(op: OpShapes) -> int:
    return 2 * _pool(op)


def _lrn(op: OpShapes) -> int:
    # A window of squares and sums, then scale, shift, power and divide.
    return math.prod(op.output()) * (2 * int(op.attributes["size"]) + 4)


_LINEAR_STEPS = {"linear": 3, "cubic": 8}  # FLOPs an axis: one interpolation, or four taps


def _resize(op: OpShapes) -> int:
    mode = op.attributes.get("mode", "nearest")
    mode = mode.decode() if isinstance(mode, bytes) else str(mode)
    if mode == "nearest":
        return 0
    before, after = op.input(0), op.output()
    axes = sum(a != b for a, b in zip(before, after, strict=True))
    # A point of n axes needs 2**n - 1 linear interpolations (4**n taps of cubic ones).
    points = (2**axes - 1) if mode == "linear" else 4**axes / 4
    return int(math.prod(after) * points * _LINEAR_STEPS.get(mode, 3))


def _grid_sample(op: OpShapes) -> int:
    out = op.output()
    points: int = 2 ** (len(out) - 2) - 1
    return math.prod(out) * points * _LINEAR_STEPS["linear"]


def _reduce(weight: int, per_output: int = 0) -> Rule:
    return lambda op: weight * math.prod(op.input(0)) + per_output * math.prod(op.output())


def _sort(op: OpShapes) -> int:
    # Comparisons of a heap of k over the whole input.
    out = op.output()
    largest = max(out, default=1)
    return math.prod(op.input(0)) * max(1, math.ceil(math.log2(max(largest, 2))))


def _fourier(op: OpShapes) -> int:
    data = op.input(0)
    length = max(data[1:-1], default=1)
    # 5 n log2 n real operations a transform (J. W. Cooley, J. W. Tukey, 1965).
    return int(5 * math.prod(data) / 2 * math.log2(max(length, 2)))


def _nothing(op: OpShapes) -> int:
    return 0


_MOVES = (
    "Cast CastLike Compress Concat Constant ConstantOfShape DepthToSpace Dropout Expand "
    "EyeLike Flatten Gather GatherElements GatherND Identity NonZero OneHot Optional "
    "OptionalGetElement OptionalHasElement Pad Range Reshape ReverseSequence Scatter "
    "ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase "
    "SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence "
    "ConcatFromSequence Squeeze Tile Transpose Trilu Unsqueeze Upsample BitCast"
)

VIEWS = frozenset({"Constant", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Dropout"})
"""Ops that no runtime does anything for: they name what is there already."""

_ELEMENTWISE = {
    1: "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr "
    "BitwiseXor Ceil Cos Cosh Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN Less "
    "LessOrEqual Log Mod Mul Neg Not Or Pow Reciprocal Relu Round Sign Sin Sinh Sqrt Sub Tan Tanh "
    "Where Xor",
    2: "Clip BatchNormalization LeakyRelu PRelu Shrink Softsign ThresholdedRelu "
    "DequantizeLinear CumSum",
    3: "Celu Elu Selu Softplus QuantizeLinear",
    4: "HardSigmoid Sigmoid",
    5: "Gelu HardSwish Softmax Hardmax Swish Mish",
    6: "LogSoftmax",
    # mean, subtract, square, mean, add eps + root + divide, scale, shift
    9: "InstanceNormalization LayerNormalization GroupNormalization MeanVarianceNormalization",
}

_REDUCTIONS = {
    "ReduceSum": (1, 0), "ReduceMax": (1, 0), "ReduceMin": (1, 0), "ReduceProd": (1, 0),
    "ReduceMean": (1, 1), "ReduceL1": (2, 0), "ReduceL2": (2, 1), "ReduceSumSquare": (2, 0),
    "ReduceLogSum": (1, 1), "ReduceLogSumExp": (4, 2), "ArgMax": (1, 0), "ArgMin": (1, 0),
    "GlobalAveragePool": (1, 1), "GlobalMaxPool": (1, 0), "GlobalLpPool": (2, 1),
    "LpNormalization": (3, 0), "DynamicQuantizeLinear": (5, 0), "Det": (1, 0),
    "RMSNormalization": (5, 0), "SimplifiedLayerNormalization": (5, 0),
    "NonMaxSuppression": (1, 0), "MaxRoiPool": (1, 0), "Unique": (1, 0),
}  # fmt: skip

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVES.split(), _nothing),
    **{
        name: _each_output(weight)
        for weight, names in _ELEMENTWISE.items()
        for name in names.split()
    },
    **{name: _reduce(*weights) for name, weights in _REDUCTIONS.items()},
    **dict.fromkeys(("Sum", "Mean", "Max", "Min"), _variadic),
    "Conv": _conv(0, 1, 2),
    "ConvInteger": _conv(0, 1, None),
    "QLinearConv": _conv(0, 3, 8),
    "ConvTranspose": _conv_transpose,
    "DeformConv": _deform_conv,
    "MatMul": _matmul(0, 1),
    "MatMulInteger": _matmul(0, 1),
    "QLinearMatMul": _matmul(0, 3),
    "Gemm": _gemm,
    "Einsum": _einsum,
    "LSTM": _recurrent(4, 9),  # 5 activations; c = f c + i g: 3; h = o tanh(c): 1
    "GRU": _recurrent(3, 8),  # 3 activations; r h: 1; h = (1 - z) n + z h: 4
    "RNN": _recurrent(1, 1),
    "Attention": _attention,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "LpPool": _lp_pool,
    "LRN": _lrn,
    "Resize": _resize,
    "GridSample": _grid_sample,
    "TopK": _sort,
    "DFT": _fourier,
    "RotaryEmbedding": _each_output(3),
    # onnxruntime's own, of which other names mean something else than in the standard
    "com.microsoft::BiasGelu": _each_output(6),
    "com.microsoft::FastGelu": _each_output(9),
    "com.microsoft::FusedConv": _conv(0, 1, 2),
    "com.microsoft::FusedMatMul": _fused_matmul,
    "com.microsoft::Gelu": _each_output(5),
    "com.microsoft::MatMulNBits": _matmul_nbits,
    "com.microsoft::QuickGelu": _each_output(6),
    "com.microsoft::SkipLayerNormalization": _each_output(10),
}


# --- memory traffic ---------------------------------------------------------------------------

_READS_WHAT_IT_WRITES = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
_READS_NOTHING = frozenset({"Shape", "Size"})


VALUE_BITS: Mapping[Precision, int] = {
    Precision.FP16: 16,
    Precision.BF16: 16,
    Precision.INT8: 8,
    Precision.INT4: 16,
}
"""Of values that are fp32 as written, in lower precisions; int4 is of weights only, beside 16."""

WEIGHT_BITS: Mapping[Precision, int] = {**VALUE_BITS, Precision.INT4: 4}
"""Of weights that are fp32 as written, in lower precisions."""


def bytes_read(
    op_type: str, inputs: Sequence[int | None], outputs: Sequence[int | None]
) -> int | None:
    """Bytes an op reads, given the sizes of its inputs and outputs.

    All of its inputs, except that indexing reads only what it picks and ``Shape`` nothing.
    """
    if op_type in _READS_NOTHING:
        return 0
    if op_type in _READS_WHAT_IT_WRITES and inputs:
        return total((*outputs, *inputs[1:]))
    return total(inputs)


def total(sizes: Sequence[int | None]) -> int | None:
    """The sum; None if any part is unknown."""
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
