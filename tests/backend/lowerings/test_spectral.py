"""Fourier transforms, windows and filters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.backend.lowerings.against import agree, randoms


@pytest.mark.parametrize("axis", [1, 2, -2])
@pytest.mark.parametrize("length", [None, 5, 12])
@pytest.mark.parametrize(
    ("parts", "attributes"),
    [
        (1, {}), (2, {}), (1, {"onesided": 1}), (2, {"inverse": 1}),
        (2, {"inverse": 1, "onesided": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dft(
    axis: int, length: int | None, parts: int, attributes: dict[str, Any], opset: int, dtype: Any
) -> None:
    feeds = [randoms(2, 7, 6, parts, dtype=dtype), None if length is None else np.array(length)]
    if opset == 20:
        feeds.append(np.array(axis))
    else:
        attributes = {**attributes, "axis": axis}
    constant = (1, 2) if length == 5 else ()
    agree("DFT", *feeds, opset=opset, constant=constant, reference=True, **attributes)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize(("window", "length"), [(True, None), (False, 16), (True, 16)])
@pytest.mark.parametrize("constant", [(), (1, 3)])
def test_stft(onesided: int, window: bool, length: int | None, constant: Any) -> None:
    agree(
        "STFT", randoms(2, 60, 1), np.array(7), randoms(16) if window else None,
        None if length is None else np.array(length),
        opset=17, onesided=onesided, constant=constant,
    )  # fmt: skip


def test_stft_of_complex_signals() -> None:
    x = randoms(1, 40, 2)
    (got,) = agree("STFT", x, np.array(5), randoms(8), opset=17, onesided=0)
    assert got.shape == (1, 7, 8, 2)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("size", [2, 9, 16])
@pytest.mark.parametrize("dtype", [1, 11])
def test_windows(op: str, periodic: int, size: int, dtype: int) -> None:
    agree(
        op, np.array(size), opset=17, periodic=periodic, output_datatype=dtype, reference=True,
        atol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("mels", [4, 20])
def test_mel_weights(mels: int) -> None:
    agree(
        "MelWeightMatrix", np.array(mels), np.array(256), np.array(16000),
        np.array(30.0, np.float32), np.array(7000.0, np.float32), opset=17,
    )  # fmt: skip
