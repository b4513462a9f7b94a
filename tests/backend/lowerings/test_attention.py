"""Attention and rotary embeddings beyond the node cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backend.lowerings.against import agree, randoms

MASKS = ["none", "keys", "bool", "heads", "short", "float", "empty rows"]


def mask_of(kind: str, queries: int, keys: int, heads: int) -> Any:
    draw = np.random.default_rng(3)
    if kind == "none":
        return None
    if kind == "keys":
        return draw.random((1, keys)) < 0.7
    if kind == "short":
        return draw.random((queries, keys - 2)) < 0.7
    if kind == "heads":
        return draw.random((heads, queries, keys)) < 0.7
    mask = draw.random((2, 1, queries, keys)) < 0.7
    if kind == "empty rows":
        mask[:, :, 1] = False
    return (
        np.where(mask, draw.standard_normal(mask.shape), -np.inf).astype(np.float32)
        if (kind == "float")
        else mask
    )


@settings(max_examples=150, deadline=None)
@given(
    mask=st.sampled_from(MASKS),
    past=st.sampled_from([0, 3]),
    groups=st.sampled_from([1, 3]),
    flat=st.booleans(),
    attributes=st.fixed_dictionaries(
        {},
        optional={
            "is_causal": st.just(1),
            "scale": st.just(0.4),
            "softcap": st.just(2.0),
            "softmax_precision": st.sampled_from([1, 11]),
            "left_window_size": st.integers(0, 2),
            "right_window_size": st.integers(0, 2),
        },
    ),
    outputs=st.sampled_from([1, 3, 4]),
    mode=st.sampled_from([1, 2, 3]),
    lengths=st.booleans(),
)
def test_attention(
    mask: str, past: int, groups: int, flat: bool, attributes: dict[str, Any], outputs: int,
    mode: int, lengths: bool,
) -> None:  # fmt: skip
    queries, keys, heads = 4, 6, 2
    window = any(name.endswith("size") for name in attributes)
    if outputs == 4:
        attributes = {**attributes, "qk_matmul_output_mode": mode}
    if flat:
        attributes = {**attributes, "q_num_heads": heads * groups, "kv_num_heads": heads}
    shapes = [(2, heads * groups, queries, 8), (2, heads, keys, 8), (2, heads, keys, 5)]
    q, k, v = (
        randoms(*((b, n, h * d) if flat else (b, h, n, d)), seed=i)
        for i, (b, h, n, d) in enumerate(shapes)
    )
    pasts: list[Any] = [None, None]
    if past:
        pasts = [randoms(2, heads, past, 8), randoms(2, heads, past, 5)]
    known = np.array([5, 3]) if lengths and not past and outputs == 1 else None
    bias = mask_of(mask, queries, keys + past, heads * groups)
    if mask == "keys" and "is_causal" in attributes:  # onnx.reference takes its shape for that
        bias = np.repeat(bias, queries, 0)
    agree(
        "Attention", q, k, v, bias, *pasts, known,
        opset=25 if window else 24, outputs=("Y", "K", "V", "S")[:outputs], reference=True,
        **attributes,
    )  # fmt: skip


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_against_onnxruntime(outputs: int, causal: int) -> None:
    agree(
        "Attention", randoms(2, 4, 3, 8), randoms(2, 4, 5, 8), randoms(2, 4, 5, 8),
        mask_of("bool", 3, 9, 4), randoms(2, 4, 4, 8), randoms(2, 4, 4, 8),
        opset=23, outputs=("Y", "K", "V")[:outputs] if outputs > 1 else ("Y", "K", "V"),
        is_causal=causal,
    )  # fmt: skip


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotated", [0, 4])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_rotary_embedding(interleaved: int, rotated: int, flat: bool, positions: bool) -> None:
    size = rotated or 8
    x = randoms(2, 5, 24) if flat else randoms(2, 3, 5, 8)
    tables = (20, size // 2) if positions else (2, 5, size // 2)
    where = np.random.default_rng(1).integers(0, 20, (2, 5)) if positions else None
    agree(
        "RotaryEmbedding", x, randoms(*tables, seed=1), randoms(*tables, seed=2), where,
        opset=23, interleaved=interleaved, rotary_embedding_dim=rotated, num_heads=3,
    )  # fmt: skip
