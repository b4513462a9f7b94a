"""Weights that a provider keeps on the device when their session is gone, and how it lets go.

WebGPU (0.4.0) puts buffers of weights that are no longer used on a list, which it empties when a
kernel packs weights as its session is made (``WebGpuKernel::PrePack`` flushes
``InitializerBufferManager``) or the process's last session goes. In between, every model that is
compiled and closed takes its size from the device.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from dioe_onnxruntime.lanes import Lane
from dioe_onnxruntime.sessions import Placed, host_settings, make_session

KEPT_BYTES = 16 << 20
"""As much may stay on the device; letting go takes 2 to 6 ms (on a software adapter)."""


def watch(session: ort.InferenceSession, lane: Lane, nbytes: int) -> ort.InferenceSession:
    """Count ``nbytes`` of weights as left on the device when ``session`` is gone."""
    if lane.placed.provider.keeps_weights:
        # The inner object is what requests hold. The lane holds a session of its own, so not that.
        end = weakref.finalize(getattr(session, "_sess", session), _left, weakref.ref(lane), nbytes)
        end.atexit = False
    return session


def _left(lane: weakref.ref[Lane], nbytes: int) -> None:
    """Only counts: the garbage collector may call this in the middle of anything."""
    alive = lane()
    if alive is not None:
        alive.left_bytes += nbytes


def let_go(lane: Lane) -> None:
    """Have the device's memory given back that weights of sessions which are gone still hold.

    Raises what ``make_session`` does.
    """
    if lane.left_bytes < KEPT_BYTES:
        return
    with lane.exclusive():
        _pack(lane.placed)
        lane.left_bytes = 0


def _pack(placed: Placed) -> None:
    """Make a session whose one kernel packs its weight: a convolution, channels last."""
    info, shape = helper.make_tensor_value_info, [1, 1, 1, 1]
    weight = numpy_helper.from_array(np.full(shape, 0.5, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "pack",
        [info("x", TensorProto.FLOAT, shape)],
        [info("y", TensorProto.FLOAT, shape)],
        [weight],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    options: dict[str, Any] = {"preferredLayout": "NHWC"}
    make_session(model.SerializeToString(), host_settings(), placed, options, strict=False)
