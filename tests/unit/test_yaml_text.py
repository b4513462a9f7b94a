"""YAML as plain data: places, and everything that is refused before it is built."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.types import ConfigError
from dioe.yaml_text import MAX_BYTES, parse_document, read_document


def test_places() -> None:
    document = parse_document("a: 1\nb:\n  - c: 2\n    d: [x, yy]\n", "f.yaml")
    assert document.data == {"a": 1, "b": [{"c": 2, "d": ["x", "yy"]}]}
    assert document.place(("a",)) == "f.yaml:1:1"
    assert document.place(("b", 0, "d")) == "f.yaml:4:5"
    assert document.place(("b", 0, "d", 1)) == "f.yaml:4:12"
    assert document.place(("b", 0, "missing", 3)) == "f.yaml:3:5"  # the nearest that holds it
    assert document.place(()) == "f.yaml:1:1"


def test_anchors_and_merges_in_measure() -> None:
    text = "base: &base {kind: cpu, size: 3}\nother:\n  <<: *base\n  size: 4\n"
    document = parse_document(text, "f.yaml")
    assert document.data["other"] == {"kind": "cpu", "size": 4}
    assert document.place(("other", "size")) == "f.yaml:4:3"
    assert document.place(("other", "kind")) == "f.yaml:1:14"


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)

BROKEN = {
    "empty": ("", "f.yaml: the file is empty"),
    "comment": ("# nothing\n", "the file is empty"),
    "list": ("- a\n- b\n", "the file is a list, not a mapping"),
    "scalar": ("just text", "the file is a single value, not a mapping"),
    "unclosed": ("a: [1, 2", "f.yaml:1:9: not YAML"),
    "tab": ("a:\n\t- b", "f.yaml:2:1: not YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "f.yaml:2:1: not YAML"),
    "no alias": ("a: *b", "f.yaml:1:4: not YAML"),
    "NUL": ("a: \x00", "not YAML"),
    "call": ("a: !!python/object/apply:os.system ['true']", "f.yaml:1:4: the tag .*python/object"),
    "name": ("a: !!python/name:os.system", "the tag .*python/name"),
    "module": ("x:\n  - !!python/module:os", "f.yaml:2:5: the tag"),
    "own tag": ("a: !include other.yaml", "the tag !include is not allowed"),
    "binary": ("a: !!binary aGVsbG8=", "the tag .*binary"),
    "set": ("a: !!set {b, c}", "the tag .*set"),
    "doubled key": ("a: 1\nb: 2\na: 3", "f.yaml:3:1: the key 'a' is written twice"),
    "number key": ("1: a", "f.yaml:1:1: a key that is no text"),
    "boolean key": ("a:\n  yes: 1", "f.yaml:2:3: a key that is no text"),
    "list key": ("? [a, b]\n: 1", "f.yaml:1:3: a key that is no text"),
    "bomb": (BOMB, "unfolds to more than"),
    "recursive list": ("a: &a [*a]", "nests deeper than"),
    "recursive merge": ("<<: &a {<<: *a}", "nests deeper than"),
    "deep": ("a: " + "[" * 5000, "nests deeper than"),
    "many": ("a: [" + "1," * 200_000 + "]", "unfolds to more than"),
    "long number": ("a: " + "9" * 5000, "a value can't be read"),
    "no date": ("a: 2024-99-99", "a value can't be read"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(ConfigError, match=message) as caught:
        parse_document(text, "f.yaml")
    assert caught.value.fix
    assert caught.value.place.startswith("f.yaml")
    assert time.process_time() - start < 20  # a bomb must not go off, even slowly


@settings(max_examples=60)
@given(st.text(st.sampled_from("ab:-[]{}&*!?|>'\"%#,<\n \t0.~"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_document(text, "f.yaml").data, dict)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_document(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="not a file"):
        read_document(tmp_path)
    with pytest.raises(ConfigError, match="can't be read"):
        read_document(Path("a\0b"))
    with pytest.raises(ConfigError, match="can't be read"):
        read_document(tmp_path / ("x" * 5000))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it would wait for ever
    with pytest.raises(ConfigError, match="not a file"):
        read_document(pipe)


def test_large_and_binary_files(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: " + b"x" * MAX_BYTES)
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        read_document(path)
    path.write_bytes(b"\x08\x07\x12\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_document(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("a: é\n", encoding="utf-8-sig")
    assert read_document(path).data == {"a": "é"}
