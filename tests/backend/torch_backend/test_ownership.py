"""Results belong to the caller: whatever is written into them, the next run gives the same."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

from dioe.graph import Model
from dioe.types import Array, Executable, InputError, Precisions, Resources
from dioe_torch.backend import TorchBackend

RNG = np.random.default_rng(7)

CASES = {
    "a filled one": (
        "y = ConstantOfShape<value = float[1] {3.0}>(i)",
        "int64[N] i",
        np.array([1]),
    ),
    "a filled scalar": (
        "y = ConstantOfShape<value = float[1] {3.0}>(i)",
        "int64[0] i",
        np.zeros(0, np.int64),
    ),
    "part of what is filled": (
        "a = ConstantOfShape<value = float[1] {3.0}>(i) y = Slice(a, zero, one)",
        "int64[N] i",
        np.array([4]),
    ),
    "a branch's constant": (
        """y = If(i) <then_branch = t () => (float[2] a) {a = Constant<value_floats=[1.0, 2.0]>()},
        else_branch = e () => (float[2] b) {b = Identity(w)}>""",
        "bool i",
        np.array(True),
    ),
    "what a branch takes from outside": (
        """y = If(i) <then_branch = t () => (float[2] a) {a = Constant<value_floats=[1.0, 2.0]>()},
        else_branch = e () => (float[2] b) {b = Identity(w)}>""",
        "bool i",
        np.array(False),
    ),
    "a loop's constant": (
        """y = Loop(i, go, w) <body = b (int64 n, bool c, float[2] s) => (bool d, float[2] t)
        {d = Identity(c) t = Constant<value_floats = [5.0, 6.0]>()}>""",
        "int64 i",
        np.array(1),
    ),
    "a constant reshaped": ("y = Reshape(w, i)", "int64[N] i", np.array([2, 1])),
    "the input": ("y = Identity(i)", "float[2] i", RNG.standard_normal(2, np.float32)),
}


def compiled(nodes: str, given: str) -> Executable:
    model = parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 20]> g ({given}) => (float y) {{ {nodes} }}'
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    constants = {
        "w": RNG.standard_normal(2, np.float32),
        "go": np.array(True),
        "zero": np.array([0]),
        "one": np.array([1]),
    }
    used = {name for node in model.graph.node for name in node.input} | {"w"}
    for name in sorted(used & constants.keys()):
        model.graph.initializer.append(numpy_helper.from_array(constants[name], name))
    context = TorchBackend().open("cpu", Resources(threads=1))
    return context.compile(Model.load(model), Precisions(), {})


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bound", [False, True])
def test_results_are_the_callers(case: str, bound: bool) -> None:
    nodes, given, feed = CASES[case]
    request = compiled(nodes, given).request()
    before = feed.copy()

    def run() -> Array:
        if bound:
            request.bind({"i": feed})
            request.run().wait()
            found = request.outputs["y"]
        else:
            (found,) = request.call({"i": feed}, ["y"])  # type: ignore[attr-defined]
        assert isinstance(found, np.ndarray)
        return found

    first = run()
    wanted = first.copy()
    first[...] = 77
    np.testing.assert_array_equal(run(), wanted)
    np.testing.assert_array_equal(feed, before)


def test_constants_of_branches_are_counted() -> None:
    nodes, given, _ = CASES["a branch's constant"]
    assert compiled(nodes, given).memory_bytes == 16


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_an_integer_divided_by_zero_is_a_wrong_input(op: str) -> None:
    model = parser.parse_model(
        '<ir_version: 9, opset_import: ["": 20]>'
        f" g (int32[2] a, int32[2] b) => (int32[2] y) {{ y = {op}(a, b) }}"
    )
    context = TorchBackend().open("cpu", Resources(threads=1))
    request = context.compile(Model.load(model), Precisions(), {}).request()
    request.bind({"a": np.array([7, 9], np.int32), "b": np.array([2, 0], np.int32)})
    with pytest.raises(InputError, match="ZeroDivisionError"):
        request.run()
