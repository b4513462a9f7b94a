"""Operators of ai.onnx.ml, over numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from dioe_torch.lowerings import Unsupported
from tests.backend.lowerings.graphs import agree, floats, linked, same, theirs, value

ML = "ai.onnx.ml"


def model(op_type: str, feeds: dict[str, Any], **attributes: Any) -> onnx.ModelProto:
    """One op of the domain, with attributes that text can't have."""
    node = helper.make_node(op_type, list(feeds), ["y"], domain=ML, **attributes)
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim
        )
        for name, array in feeds.items()
    ]
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name="y")])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(ML, 5)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def check(op_type: str, feeds: dict[str, Any], **attributes: Any) -> Any:
    """Assert that it gives what ONNX Runtime gives."""
    made = model(op_type, feeds, **attributes)
    (got,) = linked(made).run([value(array) for array in feeds.values()])
    (want,) = theirs(made, feeds)
    same(got.numpy(), want)
    return got


def test_binarizer() -> None:
    agree("y = ai.onnx.ml.Binarizer<threshold = 0.3>(x)", {"x": floats(3, 4)})


X = np.array([3, 1, 7, -2, 3, 100])


def test_label_encoder() -> None:
    floating = X.astype(np.float32)
    check("LabelEncoder", {"x": X}, keys_int64s=[7, 3, 1], values_floats=[0.5, 1.5, 2.5])
    check("LabelEncoder", {"x": X}, keys_int64s=[7, 3], values_int64s=[5, 6], default_int64=9)
    check("LabelEncoder", {"x": floating}, keys_floats=[7.0, 3.0, -2.0], values_int64s=[5, 6, 7])
    tensors = {
        "keys_tensor": numpy_helper.from_array(np.array([1, 3], np.int16)),
        "values_tensor": numpy_helper.from_array(np.array([10, 30], np.int16)),
        "default_tensor": numpy_helper.from_array(np.array([-5], np.int16)),
    }
    made = model("LabelEncoder", {"x": X.astype(np.int16)}, **tensors)
    (got,) = linked(made).run([torch.tensor(X, dtype=torch.int16)])
    assert got.tolist() == [30, 10, -5, -5, 30, -5]
    assert got.dtype == torch.int16


def test_label_encoder_knows_nan_and_takes_the_last_of_equal_keys() -> None:
    x = np.array([np.nan, 1, 2, 3], np.float32)
    made = model("LabelEncoder", {"x": x}, keys_floats=[1.0, np.nan, 2.0, 1.0],
                 values_int64s=[1, 2, 3, 4], default_int64=0)  # fmt: skip
    (got,) = linked(made).run([value(x)])
    assert got.tolist() == [2, 4, 3, 0]


def test_strings_are_refused() -> None:
    made = model("LabelEncoder", {"x": X}, keys_int64s=[7], values_strings=["a"])
    with pytest.raises(Unsupported, match="string"):
        linked(made)


def trees(rng: Any, features: int, targets: int, kind: Any) -> dict[str, Any]:
    """A tree of depth two and one of depth one, over random splits of all modes."""
    modes = np.array([0, 3, 5, 2], np.uint8)
    return {
        "n_targets": targets,
        "tree_roots": [0, 3],
        "nodes_featureids": rng.integers(0, features, 4).tolist(),
        "nodes_modes": numpy_helper.from_array(modes),
        "nodes_splits": numpy_helper.from_array(rng.integers(-1, 2, 4).astype(kind)),
        "nodes_truenodeids": [1, 0, 2, 4],
        "nodes_trueleafs": [0, 1, 1, 1],
        "nodes_falsenodeids": [2, 1, 3, 5],
        "nodes_falseleafs": [0, 1, 1, 1],
        "nodes_missing_value_tracks_true": [1, 0, 0, 1],
        "leaf_targetids": rng.integers(0, targets, 6).tolist(),
        "leaf_weights": numpy_helper.from_array(rng.standard_normal(6).astype(kind)),
    }


@pytest.mark.parametrize("how", [0, 1, 2, 3])
def test_tree_ensemble(how: int) -> None:
    rng = np.random.default_rng(how)
    x = rng.integers(-2, 3, (12, 3)).astype(np.float32)
    x[0, :] = np.nan
    attributes = trees(rng, 3, 1 if how > 1 else 2, np.float32)
    check("TreeEnsemble", {"x": x}, aggregate_function=how, **attributes)


def test_tree_ensemble_of_sets() -> None:
    attributes = trees(np.random.default_rng(0), 3, 2, np.float32)
    attributes["nodes_modes"] = numpy_helper.from_array(np.array([6, 0, 6, 1], np.uint8))
    attributes["membership_values"] = helper.make_tensor(
        "m", TensorProto.FLOAT, [6], [1, -1, np.nan, 0, 2, np.nan]
    )
    attributes["nodes_missing_value_tracks_true"] = [0, 0, 0, 0]
    x = np.random.default_rng(1).integers(-2, 3, (20, 3)).astype(np.float32)
    made = model("TreeEnsemble", {"x": x}, **attributes)
    (got,) = linked(made).run([value(x)])
    want = np.zeros((20, 2), np.float32)
    weights = numpy_helper.to_array(attributes["leaf_weights"])
    splits = numpy_helper.to_array(attributes["nodes_splits"])
    features, targets = attributes["nodes_featureids"], attributes["leaf_targetids"]
    for row, out in zip(x, want, strict=True):
        seen = row[features]
        if seen[0] in (1, -1):
            leaves = [0 if seen[1] <= splits[1] else 1]
        else:
            leaves = [2 if seen[2] in (0, 2) else 3]
        leaves.append(4 if seen[3] < splits[3] else 5)
        for leaf in leaves:
            out[targets[leaf]] += weights[leaf]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-5)
