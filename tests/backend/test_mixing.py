"""bf16 and fp32 mixed in one executable of OpenVINO: what is to keep fp32 keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.types import Array, Backend, Executable, Precision, Precisions, Resources
from dioe_openvino import mixing
from dioe_openvino.executable import OpenVinoExecutable
from tests.backend.cases import floats, load, rng, small_network
from tests.backend.conftest import Compile

FP32, BF16 = Precision.FP32, Precision.BF16
NOTHING_LOST = 1e-5
"""Relative error of arithmetic in fp32 throughout; bf16 anywhere gives over 1e-4."""


@pytest.fixture
def with_bf16(openvino: Backend) -> Backend:
    if BF16 not in openvino.capabilities("cpu").computes:
        pytest.skip("this CPU has no bf16 arithmetic")
    return openvino


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    scale = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
    values = rng(seed).standard_normal(shape, dtype=np.float32) * scale
    return numpy_helper.from_array(values.astype(np.float32), name)


def info(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def attention() -> Model:
    """Two heads of self-attention with biases, a residual sum and a feed-forward net with Gelu."""
    node = helper.make_node
    nodes, weights = [], []
    for i, part in enumerate("qkv"):
        weights += [weight(f"w{part}", 32, 32, seed=i), weight(f"b{part}", 32, seed=10 + i)]
        nodes += [
            node("MatMul", ["x", f"w{part}"], [f"m{part}"], name=f"project_{part}"),
            node("Add", [f"m{part}", f"b{part}"], [f"a{part}"], name=f"bias_{part}"),
            node("Reshape", [f"a{part}", "heads"], [f"h{part}"], name=f"split_{part}"),
            node(
                "Transpose", [f"h{part}"], [f"t{part}"], name=f"heads_{part}",
                perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3],
            ),
        ]  # fmt: skip
    weights += [
        numpy_helper.from_array(np.array([1, 16, 2, 16]), "heads"),
        numpy_helper.from_array(np.array([1, 16, 32]), "joined"),
        numpy_helper.from_array(np.array(0.25, np.float32), "scale"),
        weight("w1", 32, 64, seed=5),
        weight("b1", 64, seed=6),
        weight("w2", 64, 32, seed=7),
    ]
    nodes += [
        node("MatMul", ["tq", "tk"], ["s"], name="scores"),
        node("Mul", ["s", "scale"], ["ss"], name="scaled"),
        node("Softmax", ["ss"], ["p"], name="softmax", axis=-1),
        node("MatMul", ["p", "tv"], ["c"], name="context"),
        node("Transpose", ["c"], ["ct"], name="back", perm=[0, 2, 1, 3]),
        node("Reshape", ["ct", "joined"], ["cj"], name="join"),
        node("Add", ["cj", "x"], ["r"], name="residual"),
        node("MatMul", ["r", "w1"], ["f1"], name="up"),
        node("Add", ["f1", "b1"], ["f1b"], name="up_bias"),
        node("Relu", ["f1b"], ["g"], name="relu"),
        node("MatMul", ["g", "w2"], ["y"], name="down"),
    ]
    return load(nodes, [info("x", 1, 16, 32)], [info("y", 1, 16, 32)], weights)


def pictures() -> Model:
    """Grouped and transposed convolutions, Resize, HardSigmoid gates and a concatenation."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], name="conv", pads=[1, 1, 1, 1]),
        node("HardSigmoid", ["c0"], ["h"], name="gate"),
        node("Mul", ["c0", "h"], ["g"], name="gated"),
        node("Conv", ["g", "w1"], ["c1"], name="depthwise", pads=[1, 1, 1, 1], group=8),
        node("Relu", ["c1"], ["r"], name="relu"),
        node("ReduceMean", ["r", "axes"], ["m"], name="mean"),
        node("Conv", ["m", "w2"], ["c2"], name="squeeze"),
        node("Mul", ["r", "c2"], ["e"], name="excite"),
        node("Resize", ["e", "", "scales"], ["u"], name="resize", mode="nearest"),
        node("ConvTranspose", ["e", "w3"], ["t"], name="transposed", strides=[2, 2]),
        node("Concat", ["u", "t"], ["k"], name="concat", axis=1),
        node("Conv", ["k", "w4"], ["y"], name="last"),
    ]
    weights = [
        weight("w0", 8, 3, 3, 3),
        weight("w1", 8, 1, 3, 3, seed=1),
        weight("w2", 8, 8, 1, 1, seed=2),
        weight("w3", 8, 8, 2, 2, seed=3),
        weight("w4", 4, 16, 1, 1, seed=4),
        numpy_helper.from_array(np.array([2, 3]), "axes"),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
    ]
    return load(nodes, [info("x", 1, 3, 16, 16)], [info("y", 1, 4, 32, 32)], weights)


def recurrent() -> Model:
    """A product, an LSTM, and a branch with a product in each arm."""
    node = helper.make_node
    arms = []
    for i in range(2):
        body = [
            node("MatMul", ["s", f"arm{i}"], [f"p{i}"], name=f"product{i}"),
            node("Tanh", [f"p{i}"], [f"o{i}"], name=f"tanh{i}"),
        ]
        arms.append(helper.make_graph(body, f"g{i}", [], [info(f"o{i}", 6, 8)]))
    nodes = [
        node("MatMul", ["x", "w"], ["m"], name="product"),
        node("LSTM", ["m", "wl", "rl"], ["l"], name="lstm", hidden_size=8),
        node("Squeeze", ["l", "axes"], ["s"], name="squeeze"),
        node("ReduceSum", ["s"], ["total"], name="total", keepdims=0),
        node("Greater", ["total", "zero"], ["positive"], name="positive"),
        node("If", ["positive"], ["y"], name="if", then_branch=arms[0], else_branch=arms[1]),
    ]
    weights = [
        weight("w", 8, 8),
        numpy_helper.from_array(floats(1, 32, 8, seed=1) / 3, "wl"),
        numpy_helper.from_array(floats(1, 32, 8, seed=2) / 3, "rl"),
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        weight("arm0", 8, 8, seed=3),
        weight("arm1", 8, 8, seed=4),
    ]
    return load(nodes, [info("x", 6, 1, 8)], [info("y", 6, 8)], weights)


NETWORKS = {
    "small": (small_network, (1, 3, 16, 16)),
    "attention": (attention, (1, 16, 32)),
    "pictures": (pictures, (1, 3, 16, 16)),
    "recurrent": (recurrent, (6, 1, 8)),
}


def network(name: str) -> tuple[Model, Array]:
    make, shape = NETWORKS[name]
    return make(), floats(*shape, seed=9)


def run(executable: Executable, x: Array) -> Array:
    request: Any = executable.request()
    found: Array = request.call({"x": x}, ["y"])[0]
    return found


def relative(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def lowered(executable: Executable) -> tuple[str, ...]:
    assert isinstance(executable, OpenVinoExecutable)
    return executable.lowered


def precision_of(executable: Executable, x: Array) -> Mapping[str, set[str]]:
    run_request = executable.request()
    run_request.bind({"x": x})
    run_request.run()
    found: dict[str, set[str]] = {}
    for op_time in executable.profile():
        for op in op_time.ops:
            found.setdefault(op, set()).add(op_time.precision)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_all_kept_is_fp32(with_bf16: Backend, compile_on: Compile, name: str) -> None:
    made, x = network(name)
    exact = run(compile_on(with_bf16, made), x)
    low = run(compile_on(with_bf16, made, Precisions(BF16)), x)
    kept = Precisions(BF16, dict.fromkeys(made.op_ids, FP32))
    executable = compile_on(with_bf16, made, kept)
    assert relative(low, exact) > 10 * NOTHING_LOST
    assert relative(run(executable, x), exact) < NOTHING_LOST
    assert lowered(executable) == ()


@pytest.mark.parametrize("name", NETWORKS)
def test_each_op_is_kept_alone(with_bf16: Backend, name: str) -> None:
    made, x = network(name)
    context = with_bf16.open("cpu", Resources(threads=1))
    for op in made.op_ids:
        executable = context.compile(made, Precisions(BF16, {op: FP32}), {"profile": True})
        assert lowered(executable) == ()
        assert "bf16" not in precision_of(executable, x).get(op, set()), op
        executable.close()
    context.close()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_mix(with_bf16: Backend, data: st.DataObject) -> None:
    made, x = network(data.draw(st.sampled_from(sorted(NETWORKS))))
    default = data.draw(st.sampled_from([FP32, BF16]))
    other = BF16 if default is FP32 else FP32
    chosen = data.draw(st.sets(st.sampled_from(made.op_ids), min_size=1))
    precisions = Precisions(default, dict.fromkeys(chosen, other))
    context = with_bf16.open("cpu", Resources(threads=1))
    executable = context.compile(made, precisions, {"profile": True})
    found = precision_of(executable, x)
    kept = [op for op in made.op_ids if precisions.of(op) is FP32]
    assert lowered(executable) == ()
    assert not [op for op in kept if "bf16" in found[op]]
    exact = run(context.compile(made, Precisions(), {}), x)
    assert relative(run(executable, x), exact) < 0.1
    context.close()


def test_a_mix_is_serialized(with_bf16: Backend, compile_on: Compile) -> None:
    made, x = network("attention")
    half = Precisions(BF16, dict.fromkeys(made.op_ids[::2], FP32))
    executable = compile_on(with_bf16, made, half)
    expected = run(executable, x)
    blob = executable.serialize()
    assert blob is not None
    context = with_bf16.open("cpu", Resources(threads=1))
    np.testing.assert_array_equal(run(context.deserialize(blob), x), expected)
    context.close()


def test_the_draft_is_kept(with_bf16: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    export = mixing._export

    def counted(*arguments: Any) -> mixing.Draft:
        compiled.append(arguments)
        return export(*arguments)

    monkeypatch.setattr(mixing, "_export", counted)
    context = with_bf16.open("cpu", Resources(threads=1))
    made, _ = network("pictures")
    for op in made.op_ids[:3]:
        context.compile(made, Precisions(BF16, {op: FP32}), {})
    assert len(compiled) == 1
    context.compile(small_network(), Precisions(BF16, {"conv": FP32}), {})
    assert len(compiled) == 2
    monkeypatch.setattr(mixing, "KEPT_BYTES", 0)
    context.compile(attention(), Precisions(BF16, {"up": FP32}), {})
    context.compile(attention(), Precisions(BF16, {"up": FP32}), {})
    assert len(compiled) == 4
    context.close()


def test_what_is_lowered_still_is_told(
    with_bf16: Backend, compile_on: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A release that knows no such key keeps its snippets, in which attention is in bf16.
    monkeypatch.setattr(mixing, "NO_SNIPPETS", {"NO_SUCH_KEY": "DISABLE"})
    made, x = network("attention")
    kept = Precisions(BF16, dict.fromkeys(made.op_ids, FP32))
    executable = compile_on(with_bf16, made, kept)
    exact = run(compile_on(with_bf16, made), x)
    inside = {"scores", "scaled", "softmax", "context"}
    assert inside <= set(lowered(executable)) <= inside | {"heads_q", "heads_k", "heads_v"}
    assert relative(run(executable, x), exact) > NOTHING_LOST


def test_names_with_separators(with_bf16: Backend, compile_on: Compile) -> None:
    node = helper.make_node
    made = load(
        [
            node("MatMul", ["x", "w"], ["a, b"], name="one, two"),
            node("Relu", ["a, b"], ["c,d"], name="three,four"),
            node("MatMul", ["c,d", "w"], ["y"], name='<&">'),
        ],
        [info("x", 4, 32)],
        [info("y", 4, 32)],
        [weight("w", 32, 32)],
    )
    x = floats(4, 32)
    options = {"profile": True}
    mix = Precisions(BF16, {"one, two": FP32})
    found = precision_of(compile_on(with_bf16, made, mix, options), x)
    assert found["one, two"] == {"fp32"}
    assert found['<&">'] == {"bf16"}
    mix = Precisions(BF16, {'<&">': FP32})
    found = precision_of(compile_on(with_bf16, made, mix, options), x)
    assert found['<&">'] == {"fp32"}
    assert "bf16" in found["one, two"]


def test_open_shapes(with_bf16: Backend, compile_on: Compile) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="first"),
        helper.make_node("Add", ["m", "b"], ["a"], name="bias"),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    weights = [weight("w", 32, 32), numpy_helper.from_array(floats(32), "b")]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 32]) for n in "xy"]
    made = load(nodes, ports[:1], ports[1:], weights)
    kept = Precisions(BF16, dict.fromkeys(made.op_ids, FP32))
    executable = compile_on(with_bf16, made, kept)
    exact = compile_on(with_bf16, made)
    assert lowered(executable) == ()
    for rows in (1, 5, 64):
        x = floats(rows, 32)
        assert relative(run(executable, x), run(exact, x)) < NOTHING_LOST
