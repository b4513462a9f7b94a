"""Models as a worker has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from dioe.registry.worker.model import ReceivedModel
from dioe.types import ModelError

PROTO = parser.parse_model(
    """<ir_version: 9, opset_import: ["": 18]>
    g (float[2,4] x) => (float[2,4] y) { t = Relu(x) y = Neg(t) }"""
)
DATA = PROTO.SerializeToString()
OPS = ("first", "second")


def received(folder: Path, *, path: Path | None = None) -> ReceivedModel:
    data = None if path else memoryview(DATA)
    return ReceivedModel(data, path, OPS, "5a", folder)


def test_over_memory(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    model = received(folder)
    assert model.to_bytes() == DATA
    assert [node.name for node in model.ir.graph] == list(OPS)
    assert not folder.exists()  # made when it is needed
    path = model.to_path()
    assert model.to_path() == path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert onnx.load(path) == PROTO
    del model
    assert not path.exists()


def test_above_what_a_protobuf_holds(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 4), dtype=np.float32)
    whole = ir.from_proto(PROTO)
    whole.graph.register_initializer(ir.Value(name="w", const_value=ir.tensor(weights, name="w")))
    file = tmp_path / "model.onnx"
    ir.save(whole, str(file), external_data="weights.data")
    model = received(tmp_path, path=file)
    assert model.to_path() == file
    with pytest.raises(ModelError, match="to_path"):
        model.to_bytes()
    assert [node.name for node in model.ir.graph] == list(OPS)
    value = model.ir.graph.initializers["w"].const_value
    assert value is not None
    np.testing.assert_array_equal(value.numpy(), weights)
    del model
    assert file.exists()
