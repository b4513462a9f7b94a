"""Resemblyzer's speaker encoder: three LSTM layers over utterances of different lengths.

The network of https://arxiv.org/abs/1710.10467 as Resemblyzer trained it
(``resemblyzer/voice_encoder.py``), written as ONNX from its checkpoint. The batch has a length for
each utterance, as PyTorch's packed sequences have when they are exported (``sequence_lens`` of
ONNX's LSTM): Resemblyzer itself cuts everything into windows of one length. That input
decides which backend is best: ONNX Runtime 1.31.1 takes hardly longer for it, OpenVINO 2026.4.1 two
to five times as long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.zoo.audio import SPEECH_RATE_HZ, Turn, speech, turns
from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, limits, only
from benchmarks.zoo.export import made
from dioe.cli.fetch import Package, fetch_member
from dioe.types import Array, ModelError

if TYPE_CHECKING:
    import onnx

_RESEMBLYZER = Package(
    "resemblyzer",
    "0.1.4",
    "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
)
_WEIGHTS = "resemblyzer/pretrained.pt"
_WEIGHTS_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"

OPSET = 12
"""That of PP-OCR's recogniser, so that both can be in one graph as they are."""

_REVISION = 1
"""Of this module's way of writing the network; a change makes the file anew."""

_IR_VERSION = 8
_LAYERS = 3
_ONNX_GATES = (0, 3, 1, 2)  # PyTorch's are input, forget, cell, output; ONNX's i, o, f, c

# --- the front end; constants of resemblyzer/hparams.py -------------------------------------------

_BANDS = 40
_WINDOW = SPEECH_RATE_HZ * 25 // 1000
_HOP = SPEECH_RATE_HZ * 10 // 1000
_FRAMES = 128  # of the 160 it was trained on: so it costs about what PP-OCR's recogniser does
_LOUDNESS_DB = -30.0
_LEAST_S = 0.8  # shorter pieces of a turn say little about who speaks
_UTTERANCES = 2


def build(weights: Mapping[str, Array], layers: int = _LAYERS) -> onnx.ModelProto:
    """The encoder: ``mels`` float32 ``[utterances, frames, bands]`` and ``lengths`` int32
    ``[utterances]`` to ``embeddings`` float32 ``[utterances, size]``, each of unit length.

    ``weights`` are named as PyTorch names those of ``lstm`` (batch first) and ``linear``. Frames
    from an utterance's length on are ignored. Raises ModelError for a weight that is missing.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Transpose", ["mels"], ["frames0"], "transpose", perm=[1, 0, 2])]
    tensors = []

    def constant(name: str, values: Array) -> str:
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(name: str) -> Array:
        if name not in weights:
            raise ModelError(f"the checkpoint has no {name!r}", place=_WEIGHTS)
        return weights[name]

    for layer in range(layers):
        x, r = (_gates(weight(f"lstm.weight_{part}_l{layer}")) for part in ("ih", "hh"))
        biases = [_gates(weight(f"lstm.bias_{part}_l{layer}")) for part in ("ih", "hh")]
        names = [
            constant(f"lstm{layer}.W", x[np.newaxis]),
            constant(f"lstm{layer}.R", r[np.newaxis]),
            constant(f"lstm{layer}.B", np.concatenate(biases)[np.newaxis]),
        ]
        inputs = [f"frames{layer}", *names, "lengths"]
        last = layer == layers - 1  # of the last one only the final state is read
        outputs = ["", "final"] if last else [f"all{layer}"]
        hidden = r.shape[1]
        nodes.append(helper.make_node("LSTM", inputs, outputs, f"lstm{layer}", hidden_size=hidden))
        axis = 0 if last else 1  # of the directions, of which there is one
        squeezed = "state" if last else f"frames{layer + 1}"
        nodes.append(
            helper.make_node("Squeeze", outputs[-1:], [squeezed], f"squeeze{layer}", axes=[axis])
        )
    matrix = constant("linear.weight", weight("linear.weight"))
    bias = constant("linear.bias", weight("linear.bias"))
    nodes += [
        helper.make_node("Gemm", ["state", matrix, bias], ["projected"], "linear", transB=1),
        helper.make_node("Relu", ["projected"], ["rectified"], "relu"),
        helper.make_node("ReduceL2", ["rectified"], ["norm"], "norm", axes=[1], keepdims=1),
        helper.make_node("Div", ["rectified", "norm"], ["embeddings"], "unit"),
    ]
    bands = weight("lstm.weight_ih_l0").shape[1]
    size = weight("linear.bias").shape[0]
    graph = helper.make_graph(
        nodes,
        "speaker_encoder",
        [
            helper.make_tensor_value_info(
                "mels", TensorProto.FLOAT, ["utterances", "frames", bands]
            ),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["utterances"]),
        ],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["utterances", size])],
        tensors,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def _gates(stacked: Array) -> Array:
    """The four gates' rows in ONNX's order."""
    parts = np.split(stacked, 4)
    return np.concatenate([parts[gate] for gate in _ONNX_GATES])


def _write(path: Path) -> None:
    import onnx
    import torch

    checkpoint = fetch_member(_RESEMBLYZER, _WEIGHTS, _WEIGHTS_SHA256)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state"]
    model = build({name: tensor.numpy() for name, tensor in state.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _path() -> Path:
    return made("lstm", _write, parts={"revision": _REVISION, "weights": _WEIGHTS_SHA256})


# --- utterances -----------------------------------------------------------------------------------


def mel_frames(sound: Array) -> Array:
    """Power in 40 bands every 10 ms: float32 ``[1 + samples // 160, 40]``.

    As ``librosa.feature.melspectrogram`` computes it: a centred Hann window of 25 ms, Slaney's mel
    scale, triangular filters of equal area.
    """
    padded = np.pad(sound.astype(np.float64), _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(_WINDOW) / _WINDOW)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    return np.asarray(power @ _filters().T, dtype=np.float32)


@cache
def _filters() -> Array:
    """Triangular filters, float64 ``[bands, bins]``."""
    edges_hz = _mel_to_hz(np.linspace(0, _hz_to_mel(SPEECH_RATE_HZ / 2), _BANDS + 2))
    bins_hz = np.arange(_WINDOW // 2 + 1) * SPEECH_RATE_HZ / _WINDOW
    low, middle, high = (edges_hz[i : i + _BANDS, np.newaxis] for i in range(3))
    rising, falling = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * 2 / (high - low))


# Slaney's mel scale: linear up to 1 kHz, then logarithmic (Auditory Toolbox, 1998, ``mfcc``)
_LINEAR_HZ, _KNEE_HZ, _KNEE_MEL = 200 / 3, 1000.0, 15.0
_LOG_STEP = math.log(6.4) / 27


def _hz_to_mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _LINEAR_HZ
    return _KNEE_MEL + math.log(hertz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: Array) -> Array:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.asarray(np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ, above))


def pieces(spoken: list[Turn]) -> list[Turn]:
    """Turns cut into pieces of at most 1.28 s; short pieces are left out."""
    longest_s = (_FRAMES - 1) * _HOP / SPEECH_RATE_HZ
    found = []
    for turn in spoken:
        start_s = turn.start_s
        while turn.end_s - start_s >= _LEAST_S:
            end_s = min(turn.end_s, start_s + longest_s)
            found.append(Turn(start_s, end_s, turn.speaker))
            start_s = end_s
    return found


@cache
def _utterances() -> tuple[tuple[Array, str], ...]:
    """The mel frames of each piece of the talk, and who speaks."""
    sound = speech()
    loudness_db = 20 * math.log10(math.sqrt(float(np.mean(np.square(sound, dtype=np.float64)))))
    sound = sound * 10 ** (max(0.0, _LOUDNESS_DB - loudness_db) / 20)
    found = []
    for piece in pieces(turns()):
        first, end = (round(t * SPEECH_RATE_HZ) for t in (piece.start_s, piece.end_s))
        found.append((mel_frames(sound[first:end]), piece.speaker))
    return tuple(found)


def batch(utterances: list[Array]) -> Feed:
    """Utterances ``[frames, bands]`` of at most 128 frames, padded, with their lengths."""
    mels = np.zeros((len(utterances), _FRAMES, _BANDS), dtype=np.float32)
    for row, frames in zip(mels, utterances, strict=True):
        row[: len(frames)] = frames
    return {"mels": mels, "lengths": np.array([len(u) for u in utterances], dtype=np.int32)}


def _feeds() -> list[Feed]:
    """Two utterances after each other, as if to tell whether one person said both."""
    frames = [frames for frames, _ in _utterances()]
    return [batch(list(pair)) for pair in pairwise(frames)]


def _check(run: Run) -> Evidence:
    """Of all other utterances, the one most alike is by the same speaker."""
    speakers = np.array([speaker for _, speaker in _utterances()])
    outputs = [only(run(feed)) for feed in _feeds()]
    embeddings = np.concatenate([*(output[:1] for output in outputs), outputs[-1][1:]])
    nearness = embeddings @ embeddings.T
    np.fill_diagonal(nearness, -1)
    right = int((speakers[nearness.argmax(axis=1)] == speakers).sum())
    finite = bool(np.isfinite(embeddings).all())
    same = speakers[:, np.newaxis] == speakers
    np.fill_diagonal(same, False)
    alike, unlike = nearness[same].mean(), nearness[~same & (nearness > -1)].mean()
    return Evidence(
        ok=finite and right >= len(speakers) - 1 and bool(alike > unlike),
        text=f"the utterance most alike is by the same speaker {right}/{len(speakers)} times; "
        f"cosine {alike:.2f} within speakers, {unlike:.2f} between",
        figure=right / len(speakers),
    )


LSTM = BenchModel(
    name="lstm",
    path=_path,
    feeds=_feeds,
    check=_check,
    shapes={"mels": (_UTTERANCES, _FRAMES, _BANDS), "lengths": (_UTTERANCES,)},
    source=f"{_RESEMBLYZER}",
    licence="Apache-2.0",
    note="speaker encoder, three LSTM layers with sequence lengths; a talk of two people",
    limits=limits(bf16=2e-2),
)
