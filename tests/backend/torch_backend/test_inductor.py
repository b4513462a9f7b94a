"""Inductor: guarded indices and divisors, what it refuses, caches, and that weights are let go."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.types import InputError, Precision, Precisions, Request, Resources, UnsupportedError
from dioe_torch.inductor import CACHE_VARIABLE, InductorBackend, compiling, lacks

pytestmark = pytest.mark.skipif(bool(lacks("cpu")), reason=lacks("cpu"))

INT, LONG, FLOAT = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT


def model(op: str, kinds: list[int], shape: list[int], weight: Any = None, **how: Any) -> Model:
    """One op of inputs ``a``, ``b`` … with one output; ``weight`` comes first if there is one."""
    names = [chr(ord("a") + i) for i in range(len(kinds))]
    info = helper.make_tensor_value_info
    given = [] if weight is None else [numpy_helper.from_array(weight, "w")]
    node = helper.make_node(op, [*(t.name for t in given), *names], ["y"], name="op", **how)
    output = info("y", FLOAT if given else kinds[0], None)
    inputs = [info(name, kind, shape) for name, kind in zip(names, kinds, strict=True)]
    graph = helper.make_graph([node], "g", inputs, [output], given)
    opset = [helper.make_opsetid("", 17)]
    return Model.load(helper.make_model(graph, opset_imports=opset, ir_version=8))


def compiled(made: Model) -> Request:
    context = InductorBackend().open("cpu", Resources(threads=2))
    return context.compile(made, Precisions(), {}).request()


def run(request: Request, **feeds: Any) -> Any:
    request.bind(feeds)
    request.run().wait()
    return request.outputs["y"]


def test_an_index_out_of_range_is_an_error_of_one_run() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((1000, 16), dtype=np.float32)
    request = compiled(model("Gather", [LONG], [64, 64], table))
    index = rng.integers(-1000, 1000, (64, 64))
    np.testing.assert_array_equal(run(request, a=index), table[index])
    for wrong in (1000, -1001, 2**62):
        broken = index.copy()
        broken[5, 5] = wrong
        with pytest.raises(InputError, match="out of range"):
            run(request, a=broken)
    np.testing.assert_array_equal(run(request, a=index), table[index])


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_a_division_by_zero_is_an_error_of_one_run(op: str) -> None:
    rng = np.random.default_rng(1)
    request = compiled(model(op, [INT, INT], [32, 32]))
    a = rng.integers(-99, 99, (32, 32), np.int32)
    b = rng.integers(1, 9, (32, 32), np.int32)
    wanted = np.trunc(a / b).astype(np.int32) if op == "Div" else np.mod(a, b)
    np.testing.assert_array_equal(run(request, a=a, b=b), wanted)
    zero = b.copy()
    zero[3, 3] = 0
    with pytest.raises(InputError, match="divided by zero"):
        run(request, a=a, b=zero)
    a[3, 3], b[3, 3] = np.iinfo(np.int32).min, -1  # the processor traps over it
    assert run(request, a=a, b=b)[3, 3] == (np.iinfo(np.int32).min if op == "Div" else 0)


def test_what_depends_on_values_is_refused_with_the_op() -> None:
    made = model("NonZero", [LONG], [8])
    backend = InductorBackend()
    support = backend.query(made, "cpu", Precision.FP32)
    assert "depends on values" in support.refused["op"]
    with pytest.raises(UnsupportedError, match="depends on values"):
        backend.open("cpu", Resources()).compile(made, Precisions(), {})


def test_open_shapes_are_refused() -> None:
    info = helper.make_tensor_value_info
    node = helper.make_node("Relu", ["x"], ["y"], name="op")
    graph = helper.make_graph([node], "g", [info("x", FLOAT, ["n"])], [info("y", FLOAT, ["n"])])
    made = Model.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    support = InductorBackend().query(made, "cpu", Precision.FP32)
    assert support.refused == {"op": "Inductor compiles for bound shapes of tensors"}


# --- caches -------------------------------------------------------------------------------------


def test_what_it_compiles_is_kept_where_only_its_owner_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path))
    with compiling():
        assert Path(os.environ[CACHE_VARIABLE]) == tmp_path / "inductor"
    assert CACHE_VARIABLE not in os.environ
    assert stat.S_IMODE((tmp_path / "inductor").stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path))
    (tmp_path / "inductor").mkdir()
    (tmp_path / "inductor").chmod(0o777)
    with compiling():
        used = Path(os.environ[CACHE_VARIABLE])
        assert tmp_path not in used.parents
        assert used.is_dir()
    assert not used.exists()


def test_a_folder_that_was_chosen_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with compiling():
        assert os.environ[CACHE_VARIABLE] == str(tmp_path)
    assert os.environ[CACHE_VARIABLE] == str(tmp_path)


def test_no_compiler_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (cpu,) = InductorBackend().probe()
    assert cpu.state == "absent"
    assert "C++ compiler" in cpu.reason
    with pytest.raises(UnsupportedError, match="C\\+\\+ compiler"):
        InductorBackend().open("cpu", Resources())
