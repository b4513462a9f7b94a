"""Groups of ops that backends fuse, and that can't be found by looking at one op at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_ir as ir

from dioe.graph.opgraph import OpGraph


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = _names(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization BitShift BitwiseAnd "
    "BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu "
    "Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN "
    "LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow "
    "QuantizeLinear Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign "
    "Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
"""Ops that work element by element: they fuse into what makes their input."""

MOVEMENT = _names(
    "Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Expand EyeLike "
    "Flatten Gather GatherElements GatherND NonZero OneHot Optional OptionalGetElement "
    "OptionalHasElement Pad Range Reshape ReverseSequence Scatter ScatterElements ScatterND "
    "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape "
    "Size Slice SpaceToDepth Split SplitToSequence Squeeze Tile Transpose Trilu Unsqueeze"
)
"""Ops that only move, index or describe data."""

# The op types that do the work, by the kind of block that they make.
CONV = frozenset({"Conv", "ConvTranspose", "DeformConv", "ConvInteger", "QLinearConv", "FusedConv"})
MATMUL = frozenset(
    {"MatMul", "Gemm", "Einsum", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "MatMulNBits"}
)
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
NORM = frozenset(
    {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"}
    | {"MeanVarianceNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization"}
)
ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention"})
QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


def is_quantized(op_type: str) -> bool:
    """Whether an op works on quantised values."""
    return op_type in QUANTIZED or op_type.startswith("QLinear") or op_type.endswith("Integer")


Match = tuple[str, list[int]]
"""Kind of a pattern and the indices of its ops."""


def matches(graph: OpGraph) -> Iterator[Match]:
    """Attention and decomposed layer normalisation, in topological order of their last ops."""
    finders: dict[str, tuple[str, Callable[[OpGraph, ir.Node], set[str] | None]]] = {
        "Softmax": ("attention", _attention),
        "Sqrt": ("layernorm", _layer_norm),
    }
    for op in graph.ops.values():
        if op.op_type in finders and not op.domain:
            kind, find = finders[op.op_type]
            found = find(graph, graph.nodes[op.id])
            if found:
                yield kind, sorted(graph.index[name] for name in found if name in graph.index)


def _attention(graph: OpGraph, softmax: ir.Node) -> set[str] | None:
    """QKᵀ, scale, mask, softmax (and what guards it against NaN), times V."""
    score = _back_to_product(softmax.inputs[0])
    if score is None:
        return None
    found = {*score, softmax.name or ""}
    queue = [softmax.outputs[0]]
    products: set[str] = set()
    while queue:
        for user in queue.pop().consumers():
            name = user.name or ""
            if user.op_type == "MatMul" and not user.domain:
                products.add(name)
            elif user.op_type in ELEMENTWISE and not user.domain:
                if name not in found:
                    found.add(name)
                    queue.extend(user.outputs)
            else:
                return None
    return found | products if len(products) == 1 else None


def _back_to_product(value: ir.Value | None) -> set[str] | None:
    """Elementwise ops from a value back to the product of two computed matrices, inclusive."""
    found: set[str] = set()
    for _ in range(8):
        node = value.producer() if value is not None else None
        if node is None or node.domain:
            return None
        found.add(node.name or "")
        computed = [v for v in node.inputs if v is not None and not _is_constant(v)]
        if node.op_type == "MatMul":
            return found if len(computed) == 2 else None
        if node.op_type not in ELEMENTWISE or not computed:
            return None
        # The scores are the operand that a MatMul makes; the others are masks and biases.
        value = next((v for v in computed if _from_product(v)), computed[0])
    return None


def _from_product(value: ir.Value) -> bool:
    for _ in range(6):
        node = value.producer()
        if node is None:
            return False
        if node.op_type == "MatMul":
            return True
        if node.op_type not in ELEMENTWISE or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return False


def _layer_norm(graph: OpGraph, root: ir.Node) -> set[str] | None:
    """From the mean (or, for RMS, the square) to the division by the root of the variance."""
    back: list[ir.Node] = [root]
    means: list[ir.Node] = []
    node = _producer(root.inputs[0])
    while node is not None and len(back) < 12:
        back.append(node)
        if node.op_type == "ReduceMean":
            means.append(node)
        elif node.op_type not in ("Add", "Pow", "Mul", "Cast", "Sub"):
            return None
        if node.op_type == "Sub":
            break
        if node.op_type in ("Pow", "Mul") and means and _is_square(node):
            centred = _producer(node.inputs[0])
            while centred is not None and centred.op_type == "Cast":
                back.append(centred)
                centred = _producer(centred.inputs[0])
            if centred is None or centred.op_type != "Sub":
                break  # RMS normalisation squares its input itself
            node = centred
            continue
        node = _producer(node.inputs[0])
    if not means:
        return None
    if back[-1].op_type == "Sub":
        mean = _producer(back[-1].inputs[1])
        while mean is not None and mean.op_type == "Cast":
            back.append(mean)
            mean = _producer(mean.inputs[0])
        if mean is None or mean.op_type != "ReduceMean":
            return None
        back.append(mean)
    found = {node.name or "" for node in back}
    for user in root.outputs[0].consumers():
        found.add(user.name or "")
        if user.op_type == "Reciprocal":
            found |= {after.name or "" for after in user.outputs[0].consumers()}
        elif user.op_type not in ("Div", "Mul"):
            return None
    return found


def _is_square(node: ir.Node) -> bool:
    return node.op_type == "Pow" or node.inputs[0] is node.inputs[1]


def _producer(value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return None if node is not None and node.domain else node


def _is_constant(value: ir.Value) -> bool:
    node = value.producer()
    return value.is_initializer() if node is None else node.op_type == "Constant"
