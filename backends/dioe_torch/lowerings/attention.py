"""Attention and rotary embeddings."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch.nn import functional

from .core import Compute, Node, Unsupported, lowers, torch_dtype

_FUSED = getattr(functional, "scaled_dot_product_attention", None)  # from torch 2.0
_VERSION = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
_SHARES_HEADS = _VERSION >= (2, 5)
"""True if the fused attention lets several heads of queries share one of keys."""
_INFINITY = float("inf")


class _Attention:
    """The attributes of Attention."""

    def __init__(self, node: Node) -> None:
        self.q_heads, self.kv_heads = node.attr("q_num_heads", 0), node.attr("kv_num_heads", 0)
        self.scale = node.attr("scale", None)
        self.softcap = float(node.attr("softcap", 0.0))
        self.causal = node.flag("is_causal")
        self.left, self.right = (
            node.attr("left_window_size", -1),
            node.attr("right_window_size", -1),
        )
        if min(self.left, self.right) < -1:
            raise Unsupported("Attention with a negative window")
        self.mode = int(node.attr("qk_matmul_output_mode", 0))
        precision = node.attr("softmax_precision", None)
        self.precision = None if precision is None else torch_dtype(int(precision))

    def split(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """A 3-D operand by heads: [batch, heads, length, size]."""
        if x.dim() == 4:
            return x
        if heads < 1:
            raise Unsupported("Attention of 3-D inputs without numbers of heads")
        return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)

    def allowed(self, q: torch.Tensor, k: torch.Tensor, past: int, lengths: Any) -> Any:
        """Which keys each query may see, [queries, keys] or [batch, 1, queries, keys]; None: all.
        ``lengths`` are those of the keys that are no padding, by batch."""
        if not self.causal and max(self.left, self.right) < 0 and lengths is None:
            return None
        keys = torch.arange(k.shape[2], device=q.device)
        queries = torch.arange(q.shape[2], device=q.device).unsqueeze(1)
        seen = None
        if lengths is not None:
            lengths = lengths.view(-1, 1, 1, 1)
            seen = keys < lengths
        # keys before the first query: those of the past, or what of a cache is no new one
        queries = queries + (past if past or lengths is None else lengths - q.shape[2])
        if self.causal:
            seen = _both(seen, keys <= queries)
        if self.left >= 0:
            seen = _both(seen, queries - keys <= self.left)
        if self.right >= 0:
            seen = _both(seen, keys - queries <= self.right)
        return seen


def _both(one: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    return other if one is None else one & other


@lowers("Attention", since=23)
def _attention(node: Node) -> Compute:
    attention = _Attention(node)
    fused = (
        _FUSED is not None
        and not node.has_output(3)
        and attention.softcap == 0
        and attention.precision in (None, torch.float32)
    )
    windowed = max(attention.left, attention.right) >= 0

    def compute(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None = None,
        past_k: torch.Tensor | None = None,
        past_v: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
    ) -> Any:
        flat = q.dim() == 3
        q = attention.split(q, attention.q_heads)
        k, v = attention.split(k, attention.kv_heads), attention.split(v, attention.kv_heads)
        past = 0
        if past_k is not None and past_v is not None:
            past = past_k.shape[2]
            k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        present = (k, v)
        groups = q.shape[1] // k.shape[1]
        if groups > 1 and not (fused and _SHARES_HEADS):
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = None
        if fused and mask is None and past == 0 and lengths is None and not windowed:
            y = _scaled_dot_product(attention, q, k, v, None, attention.causal)
        else:
            allowed = attention.allowed(q, k, past, lengths)
            bias = _bias(mask, allowed, k.shape[2], q.dtype)
            # a row of keys that are all masked gives zeros; without a mask from outside, windows
            # or lengths, every query sees a key
            guarded = mask is not None or lengths is not None or windowed
            empty = _empty_rows(bias) if guarded and bias is not None else None
            if fused:
                y = _scaled_dot_product(attention, q, k, v, bias, False)
                y = y if empty is None else y.masked_fill(empty, 0.0)
            else:
                y, scores = _by_parts(attention, q, k, v, bias, empty)
        if flat:
            y = y.transpose(1, 2).flatten(2)
        return y if node.n_outputs == 1 else (y, *present, scores)

    return compute


def _bias(
    mask: torch.Tensor | None, allowed: torch.Tensor | None, keys: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """What hides keys from queries: False in a boolean one, else what is added to the scores."""
    if mask is None:
        return allowed
    boolean = mask.dtype == torch.bool
    mask = mask if mask.dim() > 1 else mask.reshape(1, -1)
    if mask.shape[-1] < keys:
        rest = 0.0 if boolean else -_INFINITY
        mask = functional.pad(mask, (0, keys - mask.shape[-1]), value=rest)
    if boolean:
        return mask if allowed is None else mask & allowed
    mask = mask.to(dtype)
    return mask if allowed is None else mask.masked_fill(~allowed, -_INFINITY)


def _empty_rows(bias: torch.Tensor) -> torch.Tensor:
    if bias.dtype == torch.bool:
        return ~bias.any(-1, keepdim=True)
    return bias.amax(-1, keepdim=True) == -_INFINITY


def _scaled_dot_product(
    attention: _Attention,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor | None,
    causal: bool,
) -> torch.Tensor:
    if attention.scale is not None:
        q = q * (attention.scale * math.sqrt(q.shape[-1]))
    shared = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}
    return functional.scaled_dot_product_attention(q, k, v, bias, 0.0, causal, **shared)


def _by_parts(
    attention: _Attention,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor | None,
    empty: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, and the scores of the stage that ``qk_matmul_output_mode`` asks for."""
    scale = 1 / math.sqrt(q.shape[-1]) if attention.scale is None else attention.scale
    root = math.sqrt(scale)  # on both operands, so that fp16 doesn't overflow
    scores = torch.matmul(q * root, (k * root).transpose(2, 3))
    stages = [scores]
    if attention.softcap > 0:
        scores = torch.tanh(scores / attention.softcap) * attention.softcap
    stages.append(scores)
    if bias is not None:
        boolean = bias.dtype == torch.bool
        scores = scores.masked_fill(~bias, -_INFINITY) if boolean else scores + bias
    stages.append(scores)
    shares = torch.softmax(scores, -1, dtype=attention.precision)
    if empty is not None:
        shares = shares.masked_fill(empty, 0.0)
    shares = shares.to(q.dtype)
    stages.append(shares)
    return torch.matmul(shares, v), stages[attention.mode]


# --- rotary embeddings -------------------------------------------------------------------------


@lowers("RotaryEmbedding", since=23)
def _rotary_embedding(node: Node) -> Compute:
    heads = int(node.attr("num_heads", 0))
    rotated = int(node.attr("rotary_embedding_dim", 0))
    interleaved = node.flag("interleaved")

    def compute(
        x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        shape = x.shape
        if x.dim() == 3:
            if heads < 1:
                raise Unsupported("RotaryEmbedding of a 3-D input without num_heads")
            x = x.view(shape[0], shape[1], heads, -1)
        axis = 2 if len(shape) == 3 else 1  # of the heads
        if positions is not None:
            cos, sin = cos[positions], sin[positions]
        cos, sin = cos.unsqueeze(axis), sin.unsqueeze(axis)
        size = rotated or x.shape[-1]
        turned = x[..., :size]
        one, other = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
        parts = [cos * one - sin * other, sin * one + cos * other]
        if interleaved:
            parts = [torch.stack(parts, -1).flatten(-2)]
        if size < x.shape[-1]:
            parts.append(x[..., size:])
        return torch.cat(parts, -1).view(shape) if len(parts) > 1 else parts[0].view(shape)

    return compute
