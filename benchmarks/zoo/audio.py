"""Audio: Basic Pitch's note detector on synthesised notes, Silero's speech detector on speech."""

from __future__ import annotations

import io
import math
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, limits
from dioe.cli.fetch import Package, fetch_member, fetch_members
from dioe.types import Array, ModelError

# --- Basic Pitch (https://arxiv.org/abs/2203.09893); constants of basic_pitch/constants.py --------

_BASIC_PITCH = Package(
    "basic-pitch",
    "0.4.0",
    "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
)
_NOTE_RATE_HZ = 22050
_NOTE_SAMPLES = 2 * _NOTE_RATE_HZ - 256
_LEAD_SAMPLES = 15 * 256  # half of the 30 frames by which windows overlap
_AUDIO = "serving_default_input_2:0"
_NOTE_OUTPUT = "StatefulPartitionedCall:1"  # frames x 88 keys: how likely each key sounds
_LOWEST_KEY = 21  # MIDI number of a piano's lowest A

_A4 = 69
_MELODY = (_A4, 60, 64, 67, 72, 55, 48, 76)
_CHORD = (48, 60, 64, 67)


def _tone(keys: tuple[int, ...]) -> Array:
    """The first window of a recording of plucked strings: float32, two seconds.

    Eight decaying harmonics a key, over the noise of a room. Basic Pitch puts digital silence
    ahead of every recording (inference.py); without any, its log spectrum is normalised by the
    quietest value, and rounding alone changes outputs by 1e-4 to 1e-3.
    """
    seconds = np.arange(_NOTE_SAMPLES) / _NOTE_RATE_HZ
    sound = np.random.default_rng(sum(keys)).normal(0, 1e-2, _NOTE_SAMPLES)
    for start, key in enumerate(keys):
        hertz = 440 * 2 ** ((key - _A4) / 12)
        since = np.maximum(seconds - 0.2 - 0.05 * start, 0)
        for harmonic in range(1, 9):
            envelope = np.exp(-since * (0.6 + 0.4 * harmonic)) * np.minimum(since / 0.005, 1)
            sound += envelope / harmonic**1.5 * np.sin(2 * math.pi * hertz * harmonic * since)
    sound[:_LEAD_SAMPLES] = 0
    return np.asarray(0.6 * sound / np.abs(sound).max(), dtype=np.float32)


def _pitch_feed(*keys: int) -> Feed:
    return {_AUDIO: _tone(keys).reshape(1, _NOTE_SAMPLES, 1)}


def _pitch_path() -> Path:
    return fetch_member(
        _BASIC_PITCH,
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
    )


def _pitch_feeds() -> list[Feed]:
    return [_pitch_feed(*_CHORD), *(_pitch_feed(key) for key in _MELODY)]


def _keys_heard(run: Run, feed: Feed, count: int) -> set[int]:
    """MIDI numbers of the ``count`` keys that sound most."""
    loudness = run(feed)[_NOTE_OUTPUT][0].mean(axis=0)
    return {int(key) + _LOWEST_KEY for key in np.argsort(loudness)[-count:]}


def _pitch_check(run: Run) -> Evidence:
    heard = sum(_keys_heard(run, _pitch_feed(key), 1) == {key} for key in _MELODY)
    a4 = _keys_heard(run, _pitch_feed(_A4), 1) == {_A4}
    chord = _keys_heard(run, _pitch_feed(*_CHORD), len(_CHORD)) == set(_CHORD)
    return Evidence(
        ok=a4 and chord and heard == len(_MELODY),
        text=f"440 Hz {'is' if a4 else 'is NOT'} A4, {heard}/{len(_MELODY)} notes, "
        f"chord {'right' if chord else 'wrong'}",
        figure=heard / len(_MELODY),
    )


BASIC_PITCH = BenchModel(
    name="basic-pitch",
    path=_pitch_path,
    feeds=_pitch_feeds,
    check=_pitch_check,
    shapes={_AUDIO: (1, _NOTE_SAMPLES, 1)},
    source=f"{_BASIC_PITCH}",
    licence="Apache-2.0",
    note="polyphonic note detector with its front end in the graph; synthesised plucked strings",
    limits=limits(bf16=8e-2),
)

# --- Silero VAD (https://github.com/snakers4/silero-vad); utils_vad.py, OnnxWrapper ---------------

_SILERO = Package(
    "silero-vad",
    "6.2.3",
    "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
)
_PYANNOTE = Package(  # its sample is half a minute of a talk of two, with who speaks when
    "pyannote.audio",
    "3.4.0",
    "36e38f058059f46da3478dda581cda53d9d85a21173a3e70bbdbc3ba93b5e1b7",
)
SPEECH = "pyannote/audio/sample/sample.wav"
_TURNS = "pyannote/audio/sample/sample.rttm"
_SPEECH_FILES = {
    SPEECH: "c319b4abca767b124e41432d364fd7df006cb26bb79d09326c487d606a134e6e",
    _TURNS: "d78fe62c69d8e6dcbb42c26adfce83faccb374c5a1e6d987fe37f85f1c173c87",
}
SPEECH_RATE_HZ = 16000
"""Sampling rate of the speech sample."""
_CHUNK, _CONTEXT = 512, 64  # new samples a call, and those of the call before that go ahead of them
_STATE_SHAPE = (2, 1, 128)
_FIRST_FED = 350  # a chunk in the middle of speech (11.2 s)


def speech_files() -> dict[str, Path]:
    """The speech sample (``SPEECH``: 16 kHz mono WAV) and its labels, by member."""
    return fetch_members(_PYANNOTE, _SPEECH_FILES)


def speech() -> Array:
    """The speech sample as float32 in -1…1, at `SPEECH_RATE_HZ`."""
    content = speech_files()[SPEECH].read_bytes()
    with wave.open(io.BytesIO(content)) as reader:
        if (reader.getframerate(), reader.getnchannels()) != (SPEECH_RATE_HZ, 1):
            raise ModelError("the speech sample is not 16 kHz mono", place=SPEECH)
        samples = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2")
    return samples.astype(np.float32) / 32768


@dataclass(frozen=True, slots=True)
class Turn:
    """Who speaks from when to when, in seconds of the speech sample."""

    start_s: float
    end_s: float
    speaker: str


def turns() -> list[Turn]:
    """The labelled turns of the sample, in order of their start; they may overlap."""
    found = []
    for line in speech_files()[_TURNS].read_text().splitlines():  # RTTM
        fields = line.split()
        start, duration = float(fields[3]), float(fields[4])
        found.append(Turn(start, start + duration, fields[7]))
    return sorted(found, key=lambda turn: turn.start_s)


def _spoken(length: int) -> Array:
    """For each of ``length`` samples, whether somebody speaks."""
    spoken = np.zeros(length, dtype=bool)
    for turn in turns():
        first, end = (round(t * SPEECH_RATE_HZ) for t in (turn.start_s, turn.end_s))
        spoken[first:end] = True
    return spoken


def _speech_feed(samples: Array, chunk: int) -> Feed:
    """Chunk number ``chunk`` with its context, and the state every stream starts with."""
    start = chunk * _CHUNK
    padded = np.concatenate([np.zeros(_CONTEXT, dtype=np.float32), samples])
    return {
        "input": padded[np.newaxis, start : start + _CONTEXT + _CHUNK],
        "state": np.zeros(_STATE_SHAPE, dtype=np.float32),
        "sr": np.array(SPEECH_RATE_HZ, dtype=np.int64),
    }


def _silero_path() -> Path:
    return fetch_member(
        _SILERO,
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    )


def _silero_feeds() -> list[Feed]:
    samples = speech()
    return [_speech_feed(samples, chunk) for chunk in range(_FIRST_FED, _FIRST_FED + 8)]


def _silero_check(run: Run) -> Evidence:
    """The state goes round by hand here: ``run`` must not keep it itself."""
    samples = speech()
    chunks = len(samples) // _CHUNK
    spoken = _spoken(len(samples))[: chunks * _CHUNK].reshape(chunks, _CHUNK).mean(axis=1) > 0.5
    probabilities = np.empty(chunks)
    state = np.zeros(_STATE_SHAPE, dtype=np.float32)
    for chunk in range(chunks):
        outputs = run(_speech_feed(samples, chunk) | {"state": state})
        probabilities[chunk], state = outputs["output"].item(), outputs["stateN"]
    agreement = float(((probabilities > 0.5) == spoken).mean())
    voiced, silent = probabilities[spoken].mean(), probabilities[~spoken].mean()
    return Evidence(
        ok=agreement > 0.95,
        text=f"speech {voiced:.2f}, silence {silent:.2f}; "
        f"{agreement:.1%} of {chunks} chunks as labelled",
        figure=agreement,
    )


SILERO = BenchModel(
    name="silero",
    path=_silero_path,
    feeds=_silero_feeds,
    check=_silero_check,
    shapes={"input": (1, _CONTEXT + _CHUNK), "state": _STATE_SHAPE, "sr": ()},
    source=f"{_SILERO}",
    licence="MIT",
    note="speech detector with an LSTM and If nodes (opset 15); a talk of two people, 32 ms a run",
    state={"stateN": "state"},
    limits=limits(bf16=2e-2),
)
