"""Options that commands share: shapes and inputs from text and files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dioe.cli.options import parse_inputs, parse_shapes, print_json
from dioe.types import InputError


@pytest.mark.parametrize(
    ("texts", "shapes"),
    [
        (None, {}),
        ([], {}),
        (["x=1,3,640,640"], {"x": (1, 3, 640, 640)}),
        (["x=7", "y=1,2"], {"x": (7,), "y": (1, 2)}),
        (["sr="], {"sr": ()}),
        (["a:0=1, 2"], {"a:0": (1, 2)}),
        (["a=b=3"], {"a=b": (3,)}),
        (["x=0,4"], {"x": (0, 4)}),
    ],
)
def test_shapes(texts: list[str] | None, shapes: dict[str, tuple[int, ...]]) -> None:
    assert parse_shapes(texts) == shapes


@pytest.mark.parametrize("text", ["x", "=1,2", "x=1,two", "x=-1,3", "x=1.5", "x=1,,2", "", "x=1x2"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(InputError, match="is no shape") as caught:
        parse_shapes([text])
    assert caught.value.place == "--shape"
    assert "x=1,3,640,640" in caught.value.fix


def test_a_shape_given_twice() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_shapes(["x=1", "x=2"])


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(3).random((2, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "file"), [("x", "a.npy"), ("in:0", "b=c.npy"), ("a=b", "c.npy"), ("x", "no suffix")]
)
def test_inputs(tmp_path: Path, array: np.ndarray, name: str, file: str) -> None:
    path = tmp_path / file
    with path.open("wb") as stream:
        np.save(stream, array)
    found = parse_inputs([f"{name}={path}"])
    assert found is not None
    assert list(found) == [name]
    np.testing.assert_array_equal(found[name], array)


def test_no_inputs() -> None:
    assert parse_inputs(None) is None
    assert parse_inputs([]) is None


@pytest.mark.parametrize("text", ["x", "x=", "=f.npy", "", "="])
def test_what_is_no_input(text: str) -> None:
    with pytest.raises(InputError, match="is no input") as caught:
        parse_inputs([text])
    assert caught.value.place == "--input"


def test_an_input_given_twice(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match="'x' is given twice"):
        parse_inputs([f"x={tmp_path / 'a.npy'}"] * 2)


def write_npz(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.ones(3), b=np.ones(2))


def write_objects(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)


def write_pickle(path: Path) -> None:
    np.arange(6).dump(path)


def write_cut(path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.arange(100.0))
    path.write_bytes(content.getvalue()[:300])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.write_text("1.0 2.0\n"), "not a .npy file"),
        (lambda path: path.write_bytes(b""), "not a .npy file"),
        (write_pickle, "not a .npy file"),
        (write_npz, "archive"),
        (write_objects, "array of Python objects"),
        (write_cut, "damaged"),
    ],
)
def test_what_is_no_array_names_the_file(tmp_path: Path, write: Any, says: str) -> None:
    path = tmp_path / "x.npy"
    write(path)
    with pytest.raises(InputError, match=says) as caught:
        parse_inputs([f"x={path}"])
    assert caught.value.place == str(path)
    assert "numpy.save" in caught.value.fix or ".npy" in caught.value.fix
    assert "allow_pickle" not in str(caught.value)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
@given(cut=st.integers(0, 200), at=st.integers(0, 199), byte=st.integers(0, 255))
def test_damage_is_an_input_error_or_an_array(tmp_path: Path, cut: int, at: int, byte: int) -> None:
    content = io.BytesIO()
    np.save(content, np.arange(9, dtype=np.float64))
    damaged = bytearray(content.getvalue()[: 200 - cut])
    if at < len(damaged):
        damaged[at] = byte
    path = tmp_path / "x.npy"
    path.write_bytes(damaged)
    try:
        found = parse_inputs([f"x={path}"])
    except (InputError, MemoryError):  # a shape beyond all memory is told as that
        return
    assert found is not None
    assert isinstance(found["x"], np.ndarray)


def test_json_has_no_words_for_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": Path("x"), "d": "µs"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": None, "b": [None, 1.5], "c": "x", "d": "µs"}
    assert "µs" in out
