"""What a benchmark model is: a file, real inputs, and a check that shows that it works."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from dioe.types import Array, ModelError, Precision

Feed: TypeAlias = dict[str, Array]
"""Input name -> array: what one run gets."""

Run: TypeAlias = Callable[[Feed], Mapping[str, Array]]
"""Runs a model once: feed -> output name -> array."""

AS_WRITTEN_LIMIT = 1e-4
"""Relative L2 that ``fp32`` must keep to; none of the models has Q/DQ nodes, which get 5e-2."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a check found: whether the model does its job, in words, and as one figure."""

    ok: bool
    text: str
    figure: float


@dataclass(frozen=True)
class BenchModel:
    """A model that the benchmarks run. Nothing is fetched, exported or computed before it is asked.

    ``path()`` is the ONNX file: fetched or exported once, cached, its digest checked. ``feeds()``
    are real inputs, the first one the benchmark's. ``check(run)`` judges the model's answers
    through any ``run``, so it works for a session in any precision as well as for ONNX Runtime.
    ``shapes`` are the first feed's. ``state`` maps outputs to the inputs they return to.
    ``limits`` is the relative L2 expected of each precision against the model as written: a
    requirement for fp32, an observation for the others (see `limits`).
    """

    name: str
    path: Callable[[], Path]
    feeds: Callable[[], list[Feed]]
    check: Callable[[Run], Evidence]
    shapes: Mapping[str, tuple[int, ...]]
    source: str
    licence: str
    note: str = ""
    state: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[Precision, float] = field(
        default_factory=lambda: {Precision.FP32: AS_WRITTEN_LIMIT}
    )


def limits(*, bf16: float) -> dict[Precision, float]:
    """``BenchModel.limits`` from what bf16 did at worst over the model's feeds, rounded up.

    Seen with OpenVINO 2026.4.1 on a CPU with AVX-512 BF16.
    """
    return {Precision.FP32: AS_WRITTEN_LIMIT, Precision.BF16: bf16}


def only(outputs: Mapping[str, Array]) -> Array:
    """The output of a model that has one. Raises ModelError."""
    if len(outputs) != 1:
        raise ModelError(f"the model has {len(outputs)} outputs, expected one: {sorted(outputs)}")
    return next(iter(outputs.values()))


def cosine(a: Array, b: Array) -> float:
    """The cosine of the angle between two arrays, flattened."""
    x, y = a.ravel().astype("f8"), b.ravel().astype("f8")
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))


def ort_run(path: Path) -> Run:
    """Run the file with ONNX Runtime on the CPU: what checks and comparisons rest on."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feed: Feed) -> Mapping[str, Array]:
        return dict(zip(names, session.run(names, feed), strict=True))

    return run
