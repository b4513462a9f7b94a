"""BERT's uncased tokenizer: basic splitting, then greedy longest-match word pieces.

Follows ``BasicTokenizer`` and ``WordpieceTokenizer`` of google-research/bert (tokenization.py),
without the vocabulary's rarer cases that English text doesn't have (CJK splitting).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dioe.types import Array

_LONGEST_WORD = 100  # longer ones are [UNK], as in the original


def read_vocabulary(path: Path) -> dict[str, int]:
    """Token -> id, from a vocab.txt with one token a line."""
    tokens = path.read_text(encoding="utf-8").splitlines()
    return {token: index for index, token in enumerate(tokens)}


def encode(text: str, vocabulary: Mapping[str, int], length: int) -> tuple[Array, Array]:
    """Ids and attention mask of ``text``, int64 ``[1, length]``: cut or padded to ``length``."""
    pieces = [piece for word in _words(text) for piece in _pieces(word, vocabulary)]
    tokens = ["[CLS]", *pieces[: length - 2], "[SEP]"]
    ids = np.full((1, length), vocabulary["[PAD]"], dtype=np.int64)
    ids[0, : len(tokens)] = [vocabulary[token] for token in tokens]
    mask = (np.arange(length) < len(tokens)).astype(np.int64)[np.newaxis]
    return ids, mask


def _words(text: str) -> list[str]:
    """Lower-case words and punctuation marks, accents stripped."""
    spaced = []
    for char in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(char)
        if category in {"Mn", "Cc", "Cf"} and not char.isspace():
            continue
        spaced.append(f" {char} " if _is_punctuation(char, category) else char)
    return "".join(spaced).split()


def _is_punctuation(char: str, category: str) -> bool:
    """ASCII symbols count as punctuation too, as in the original."""
    return category.startswith("P") or (
        char.isascii() and not char.isalnum() and char.isprintable() and not char.isspace()
    )


def _pieces(word: str, vocabulary: Mapping[str, int]) -> list[str]:
    """The word's pieces, each the longest that the vocabulary has; [UNK] if there is none."""
    if len(word) > _LONGEST_WORD:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces
