"""What a run costs beside its ops: that of a model which does nothing."""

from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir

from dioe.graph import Model
from dioe.profiling.calls import waiting_call
from dioe.types import Context, Precisions, TensorSpec

_TRIES = 5

_NOTHING = """<ir_version: 8, opset_import: ["" : 17]>
nothing (float[1] x) => (float[1] y) { y = Identity(x) }"""


def time_dispatch(context: Context, precisions: Precisions) -> float:
    """Milliseconds of a run that does nothing, on buffers of the context: the fastest of some
    tries, for what disturbs a machine only adds time.

    Raises what the backend raises.
    """
    executable = context.compile(Model.load(ir.from_onnx_text(_NOTHING)), precisions, {})
    try:
        request = executable.request()
        x, y = (context.alloc(TensorSpec(n, np.dtype(np.float32), (1,))) for n in "xy")
        request.bind({"x": x}, {"y": y})
        call = waiting_call(request)
        times = []
        for _ in range(_TRIES):
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) * 1e3)
        return min(times)
    finally:
        executable.close()
