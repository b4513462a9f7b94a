"""The smallest session: tells whether a device works, and waits for its queue."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from dioe.types import DioeError, UnsupportedError
from dioe_onnxruntime.errors import run_error
from dioe_onnxruntime.sessions import Placed, host_settings, make_session

INPUT = np.array([-1, 2, -3, 4], np.float32)


def trial_session(placed: Placed, element: int = int(TensorProto.FLOAT)) -> ort.InferenceSession:
    """A session of one op, |x|, on the device; raises what ``make_session`` does."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["y"])],
        "trial",
        [info("x", element, [INPUT.size])],
        [info("y", element, [INPUT.size])],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    options = next(iter(placed.provider.precisions.values()), {})
    return make_session(model.SerializeToString(), host_settings(), placed, options)


def run_trial(
    session: ort.InferenceSession, placed: Placed, dtype: np.dtype[Any] = INPUT.dtype
) -> None:
    """Run it once, results on the host; raises what it fails with, or if they are wrong."""
    try:
        (found,) = session.run(["y"], {"x": INPUT.astype(dtype)})
    except Exception as error:
        raise run_error(error, placed.provider.backend) from error
    if found.tolist() != np.abs(INPUT).tolist():
        raise UnsupportedError(
            f"|{INPUT.tolist()}| is {found.tolist()} there", place=placed.provider.backend
        )


def computes_float16(placed: Placed) -> bool:
    """Whether the device runs an op of float16."""
    try:
        session = trial_session(placed, int(TensorProto.FLOAT16))
        run_trial(session, placed, np.dtype(np.float16))
    except DioeError:
        return False
    return True
