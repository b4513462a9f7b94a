"""How far classes of ops stay from their rooflines: learned from ops that were measured.

A measured kernel takes its class's factor times its roofline, the factor of fused ops times what
they would take by themselves, and the factor of launches times one. The factors are fitted to all
measured kernels of a target together, by least squares of the errors as shares of their model's
time, so that a model counts as much as another. No factor is below 0, and where little of a class
was measured it is near what is assumed without
(``Roofline.assumed``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dioe.graph import Kernel
from dioe.hardware.figures import Arithmetic, FigureKind, OpFactor
from dioe.profiling.roofline import FUSED, LAUNCH, Roofline

_TRUST = 1e-5
"""Of what is assumed of a class: that of one measured kernel whose roofline is 0.3 % (the square
root) of its model's time. Chosen from 1e-7 to 1e-2 by the errors of models held out, on one set of
measurements of `benchmarks.roofline host`; no command repeats that."""

_SWEEPS = 1000

_Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class MeasuredKernels:
    """The kernels of one model, and what they took on a target: ms by main op, of ``whole_ms``."""

    kernels: Sequence[Kernel]
    ms: Mapping[str, float]
    whole_ms: float


def learn(
    roofline: Roofline, measured: Sequence[MeasuredKernels], *, source: str
) -> tuple[OpFactor, ...]:
    """The factors of all classes that were measured on the roofline's device, backend and
    precision; ``source`` says how. None where nothing was measured."""
    rows, times, weights = [], [], []
    counts: Counter[str] = Counter()
    for model in measured:
        for kernel in model.kernels:
            rows.append(_row(roofline, kernel))
            times.append(model.ms.get(kernel.main, 0.0))
            weights.append(1.0 / model.whole_ms)
            counts.update(rows[-1].keys())
    classes = sorted(counts)
    matrix = np.array([[row.get(name, 0.0) for name in classes] for row in rows])
    if not matrix.size:
        return ()
    prior = np.array([roofline.assumed(name) for name in classes])
    found = fit(matrix, np.array(times), np.array(weights), prior=prior)
    return tuple(
        OpFactor(
            op_class=name, precision=Arithmetic(roofline.precision), backend=roofline.backend,
            value=float(f"{factor:.4g}"), ops=counts[name], source=source, kind=FigureKind.MEASURED,
        )
        for name, factor in zip(classes, found, strict=True)
    )  # fmt: skip


def _row(roofline: Roofline, kernel: Kernel) -> dict[str, float]:
    """What a kernel takes by the roofline alone, by the class whose factor it is to be taken
    times."""
    parts = roofline.parts(kernel)
    fused = {FUSED: parts.fused_ms} if kernel.fused else {}
    return {kernel.op_class: parts.main_ms, LAUNCH: parts.launch_ms, **fused}


def fit(matrix: _Matrix, times: _Matrix, weights: _Matrix, *, prior: _Matrix) -> _Matrix:
    """Factors x >= 0 with the least squares of (matrix @ x - times) * weights; near ``prior`` where
    the rows say little.

    ``matrix`` is (kernels, classes), ``times`` and ``weights`` are (kernels,), ``prior`` is
    (classes,).
    """
    rows = matrix * weights[:, None]
    gram = rows.T @ rows
    trust = np.full(matrix.shape[1], _TRUST)
    right = rows.T @ (times * weights) + trust * prior
    return _not_negative(gram + np.diag(trust), right, prior)


def _not_negative(gram: _Matrix, right: _Matrix, start: _Matrix) -> _Matrix:
    """The x >= 0 with the least x' gram x / 2 - right' x, by coordinate descent."""
    found = start.copy()
    for _ in range(_SWEEPS):
        before = found.copy()
        for i in range(len(found)):
            rest = right[i] - gram[i] @ found + gram[i, i] * found[i]
            found[i] = max(0.0, rest / gram[i, i])
        if np.allclose(before, found, rtol=1e-9, atol=1e-12):
            break
    return found
