from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dioe.graph import Model
from tests.unit.graph import models


def changed(change: Callable[[onnx.ModelProto], object]) -> str:
    proto = models.conv_net()
    change(proto)
    return Model.load(proto).sha256


def test_the_hash_is_of_the_model_not_of_the_file(tmp_path: Path) -> None:
    proto = models.conv_net()
    first = Model.load(proto).sha256
    for name, options in (
        ("a.onnx", {}),
        ("b.onnx", {"save_as_external_data": True, "location": "b", "size_threshold": 0}),
    ):
        folder = tmp_path / name.removesuffix(".onnx")
        folder.mkdir()
        copy = onnx.ModelProto.FromString(proto.SerializeToString())
        onnx.save(copy, folder / name, **options)  # type: ignore[arg-type]
        assert Model.load(folder / name).sha256 == first
    assert len(first) == 64


def _doc(proto: onnx.ModelProto) -> None:
    proto.producer_name = proto.doc_string = proto.graph.doc_string = "someone"
    proto.graph.name = "another"
    proto.metadata_props.add(key="author", value="me")
    proto.graph.node[0].doc_string = "x"


def _typed(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    values = numpy_helper.to_array(tensor).reshape(-1).tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values)


def _order(proto: onnx.ModelProto) -> None:
    tensors = list(proto.graph.initializer)[::-1]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(tensors)


@pytest.mark.parametrize("change", [_doc, _typed, _order])
def test_what_does_not_matter(change: Callable[[onnx.ModelProto], object]) -> None:
    assert changed(change) == changed(lambda _: None)


def _weight(proto: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    values.reshape(-1)[-1] += np.float32(1e-6)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w1"))


def _attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].attribute.append(helper.make_attribute("epsilon", 1e-4))


def _opset(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 16


def _wiring(proto: onnx.ModelProto) -> None:
    proto.graph.node[7].input[:] = ["d1", "c2"]


def _type(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


@pytest.mark.parametrize("change", [_weight, _attribute, _opset, _wiring, _type])
def test_what_matters(change: Callable[[onnx.ModelProto], object]) -> None:
    assert changed(change) != changed(lambda _: None)


def test_bodies_count() -> None:
    def other(proto: Any) -> None:
        proto.graph.node[2].attribute[1].g.node[0].op_type = "Sub"

    first, second = models.control_net(), models.control_net()
    other(second)
    assert Model.load(first).sha256 != Model.load(second).sha256


def test_bound_shapes_and_a_round_trip_do_not_matter() -> None:
    loaded = Model.load(models.attention_net())
    bound = loaded.with_shapes({"ids": (1, 6)})
    assert bound.sha256 == loaded.sha256
    assert Model.load(bound.to_bytes()).sha256 == loaded.sha256
