"""One session, many threads: every output is that of its own input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.toys import models
from tests.toys.values import close, tensor
from tests.unit.runtime.conftest import MakeSession

THREADS = 8
RUNS = 300


@pytest.mark.parametrize("target", ["cpu/onnxruntime/fp32", "cpu/openvino/fp32"])
def test_outputs_belong_to_their_inputs(make_session: MakeSession, target: str) -> None:
    model = models.dense(width=32)
    session = make_session(model, {"x": (4, 32)}, {"x": (2, 32)}, target=target)

    def work(worker: int) -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(worker)
        kept = []
        for i in range(RUNS):
            x = rng.standard_normal((2 if i % 3 else 4, 32)).astype(np.float32)
            kept.append((tensor(session.run({"x": x})), x))
        return kept

    with ThreadPoolExecutor(THREADS) as pool:
        kept = [pair for pairs in pool.map(work, range(THREADS)) for pair in pairs]
    for y, x in kept:  # all kept till now, so no buffer was used twice
        close(y, models.dense_output(model, x), 1e-4)


def test_output_names_differ_between_threads(make_session: MakeSession) -> None:
    session = make_session(models.branches(), {"x": (3, 6)})
    choices = (None, ["y"], ["z"], ["z", "y"])

    def work(worker: int) -> None:
        x = np.random.default_rng(worker).standard_normal((3, 6)).astype(np.float32)
        whole = session.run({"x": x})
        for i in range(100):
            names = choices[(i + worker) % len(choices)]
            outputs = session.run({"x": x}, names)
            assert list(outputs) == (names or ["y", "z"])
            for name in outputs:
                close(tensor(outputs, name), tensor(whole, name))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
