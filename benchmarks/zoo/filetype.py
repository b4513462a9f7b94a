"""Magika, which tells a file's type from its bytes, on files of the other models' packages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.zoo.audio import SPEECH, speech_files
from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, limits, only
from benchmarks.zoo.efficientnet import photo_files
from dioe.cli.demo_model import demo_picture
from dioe.cli.fetch import Package, fetch_members

_MAGIKA = Package(
    "magika",
    "1.0.3",
    "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
)
_MODEL = "magika/models/standard_v3_3/model.onnx"
_CONFIG = "magika/models/standard_v3_3/config.min.json"
_README = "magika/models/standard_v3_3/README.md"
_JSON = "magika/config/content_types_kb.min.json"
_FILES = {
    _MODEL: "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    _CONFIG: "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
    "magika/magika.py": "63aa42a2b2b412083ad1e2d6cffba9c1ed58093b954c2cca089ae627409eefc4",
    _README: "0fbe867dedcdfc2dfb3fe31bb66724af8a7fd084a403408958fb7660058f23db",
    _JSON: "75208adba69bc0556403b62b32ef3ccf8b5ce494411780845852e52e6583a10d",
}

# config.min.json: beg_size, end_size, padding_token, block_size
_BEGIN, _END, _PADDING, _BLOCK = 1024, 1024, 256, 4096


def tokens(content: bytes) -> Feed:
    """A file's features, int32 ``[1, 2048]``, as magika 1.0.3 forms them (magika.py).

    The first and last 1024 bytes of its first and last 4 KiB, white space at the file's ends
    left out; 256 where the file is shorter.
    """
    begin = content[:_BLOCK].lstrip()[:_BEGIN]
    end = content[-_BLOCK:].rstrip()[-_END:]
    row = np.full((1, _BEGIN + _END), _PADDING, dtype=np.int32)
    row[0, : len(begin)] = np.frombuffer(begin, dtype=np.uint8)
    row[0, row.shape[1] - len(end) :] = np.frombuffer(end, dtype=np.uint8)
    return {"bytes": row}


def _path() -> Path:
    return fetch_members(_MAGIKA, _FILES)[_MODEL]


def _samples() -> list[tuple[Path, str]]:
    """Files and the label each should get."""
    own = fetch_members(_MAGIKA, _FILES)
    return [
        (own["magika/magika.py"], "python"),
        (own[_README], "markdown"),
        (own[_JSON], "json"),
        (own[_MODEL], "onnx"),
        (demo_picture(), "png"),
        (photo_files()[0], "jpeg"),
        (speech_files()[SPEECH], "wav"),
    ]


def _feeds() -> list[Feed]:
    return [tokens(path.read_bytes()) for path, _ in _samples()]


def _check(run: Run) -> Evidence:
    labels = json.loads(fetch_members(_MAGIKA, _FILES)[_CONFIG].read_text())["target_labels_space"]
    samples = _samples()
    right = sum(
        labels[int(only(run(tokens(path.read_bytes())))[0].argmax())] == label
        for path, label in samples
    )
    return Evidence(
        ok=right == len(samples),
        text=f"{right}/{len(samples)} files: {', '.join(label for _, label in samples)}",
        figure=right / len(samples),
    )


MAGIKA = BenchModel(
    name="magika",
    path=_path,
    feeds=_feeds,
    check=_check,
    shapes={"bytes": (1, _BEGIN + _END)},
    source=f"{_MAGIKA}",
    licence="Apache-2.0",
    note="file type classifier; real files of seven types",
    limits=limits(bf16=6e-3),
)
