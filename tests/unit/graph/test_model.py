from __future__ import annotations

import gc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dioe.graph import Model
from dioe.types import StageModel
from tests.unit.graph import models


def test_a_model_is_a_stage_model() -> None:
    loaded: StageModel = Model.load(models.conv_net())
    assert loaded.op_ids[0] == "conv1"
    assert loaded.to_path().exists()


def test_inputs_leave_initializers_out() -> None:
    proto = models.conv_net()
    proto.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [4, 3, 3, 3]))
    assert [spec.name for spec in Model.load(proto).inputs] == ["x"]


def test_specs_know_kinds_and_dtypes() -> None:
    tensor = helper.make_tensor_type_proto
    types = {
        "s": helper.make_sequence_type_proto(tensor(TensorProto.FLOAT16, ["n"])),
        "o": helper.make_optional_type_proto(tensor(TensorProto.INT64, [2])),
        "t": tensor(TensorProto.STRING, [3]),
        "b": tensor(TensorProto.BFLOAT16, [1, None]),
        "i": tensor(TensorProto.INT4, []),
        "u": tensor(TensorProto.FLOAT, None),
    }
    graph = helper.make_graph(
        [helper.make_node("Identity", ["u"], ["y"], name="id")],
        "g",
        [helper.make_value_info(name, proto) for name, proto in types.items()],
        [helper.make_value_info("y", types["u"])],
    )
    opset = [helper.make_opsetid("", 21)]
    specs = {s.name: s for s in Model.load(helper.make_model(graph, opset_imports=opset)).inputs}
    assert specs["s"].kind == "sequence"
    assert specs["s"].dtype == np.float16
    assert specs["s"].shape == ("n",)
    assert specs["o"].kind == "optional"
    assert specs["o"].dtype == np.int64
    assert specs["t"].dtype == np.dtype(object)
    assert specs["b"].dtype == ml_dtypes.bfloat16
    assert specs["b"].shape == (1, None)
    assert specs["i"].dtype == ml_dtypes.int4
    assert specs["i"].shape == ()
    assert specs["u"].shape is None


def test_path_is_the_original_where_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(models.conv_net(), path)
    assert Model.load(path).to_path() == path


def test_path_is_a_temporary_file_that_goes_with_the_model() -> None:
    loaded = Model.load(models.conv_net())
    path = loaded.to_path()
    assert path == loaded.to_path()
    assert Model.load(path).sha256 == loaded.sha256
    del loaded
    gc.collect()
    assert not path.parent.exists()


def test_large_weights_go_beside_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dioe.graph.model._INLINE_LIMIT", 64)
    loaded = Model.load(models.attention_net())
    path = loaded.to_path()
    assert (path.parent / "weights.data").stat().st_size > 1000
    assert Model.load(path).sha256 == loaded.sha256
    assert loaded.to_bytes()


def test_unnamed_nodes_get_their_ids_as_names() -> None:
    proto = models.conv_net()
    for node in proto.graph.node:
        node.name = "same"
    loaded = Model.load(proto)
    assert loaded.op_ids == tuple(node.output[0] for node in proto.graph.node)
    saved = onnx.ModelProto.FromString(loaded.to_bytes())
    assert tuple(node.name for node in saved.graph.node) == loaded.op_ids


def test_bytes_compute_the_same() -> None:
    proto = models.control_net()
    feeds = {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4), "flag": np.array(True)}
    after = onnx.ModelProto.FromString(Model.load(proto).to_bytes())
    np.testing.assert_array_equal(
        models.reference(proto, feeds)["y"], models.reference(after, feeds)["y"]
    )


# --- quantised --------------------------------------------------------------------------------


def _weight(dtype: str) -> onnx.TensorProto:
    values = np.random.default_rng(0).integers(0, 100, (4, 4)).astype(dtype)
    return numpy_helper.from_array(values, "w")


def test_float_models_are_not_quantised() -> None:
    assert not Model.load(models.conv_net()).quantised
    assert not Model.load(models.attention_net()).quantised


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_q_and_dq_are_quantised(dtype: str) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], name="dq"),
        helper.make_node("MatMul", ["x", "d"], ["y"], name="mm"),
    ]
    scale = models.scalar(0.1, "s")
    proto = models.model(nodes, {"x": [1, 4]}, {"y": [1, 4]}, [_weight(dtype), scale])
    assert Model.load(proto).quantised


@pytest.mark.parametrize(("dtype", "expected"), [("int8", True), ("int32", False)])
def test_integer_weights_scaled_by_hand_are_quantised(dtype: str, expected: bool) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], name="t"),
        helper.make_node("Cast", ["t"], ["c"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["c", "z"], ["d"], name="sub"),
        helper.make_node("Mul", ["d", "s"], ["m"], name="mul"),
        helper.make_node("MatMul", ["x", "m"], ["y"], name="mm"),
    ]
    scalars = [models.scalar(0.1, name) for name in "sz"]
    proto = models.model(nodes, {"x": [1, 4]}, {"y": [1, 4]}, [_weight(dtype), *scalars])
    assert Model.load(proto).quantised is expected
