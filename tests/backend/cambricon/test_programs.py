"""Op lists and weights on their way to the worker come out as they went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dioe.graph import Model
from dioe.types import ModelError, Precision, Precisions, UnsupportedError
from dioe_cambricon.programs import ProgramModel, encode
from dioe_cambricon.worker.errors import BackendError
from dioe_cambricon.worker.programs import read_program
from dioe_torch import lowerings
from dioe_torch.program import program_of
from tests.backend.cambricon.models import resnet, transformer_block
from tests.backend.cases import model, relu

BRANCHES = model(
    "g (float[4] x, bool c, float[2] r) => (float[N] y) { "
    "k = Constant <value_floats = [1.5, -2.25]> () "
    'h = Resize <mode = "linear", axes = [0]> (x, , r) '
    "y = If (c) <then_branch = t () => (float[N] a) { a = Abs(h) },"
    " else_branch = e () => (float[N] b) { n = Constant <value_float = 0.5> () b = Mul(h, n) }> }"
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and (one == other).all())
    if isinstance(one, tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


def read(data: bytes, folder: Path) -> Any:
    path = folder / "program"
    path.write_bytes(data)
    found = read_program(lowerings, str(path))
    path.unlink()  # what was read stays mapped
    return found


@pytest.mark.parametrize("made", [resnet(), transformer_block(), relu("N"), BRANCHES])
def test_programs_come_back(made: Model, tmp_path: Path) -> None:
    sent = program_of(made, Precisions(Precision.FP16))
    assert same(sent, read(encode(sent), tmp_path))


def test_odd_constants_and_attributes(tmp_path: Path) -> None:
    constants = {
        "scalar": lowerings.Constant("float", np.array(np.float32(0.1))),
        "empty": lowerings.Constant("int64", np.empty((0, 3), np.int64)),
        "bits": lowerings.Constant("bfloat16", np.array([16256, 49024], np.uint16)),
        "bool": lowerings.Constant("bool", np.array([[True], [False]])),
    }
    attributes = {
        "bytes": b"\x00\xff",
        "text": "Straße",
        "inf": float("inf"),
        "nested": (1, 2.5, "a", b"b", constants["bits"]),
        "none": (),
    }
    op = lowerings.Op("id", "", "Add", 14, ("a", ""), ("b",), attributes, "bf16")
    shapes = ((1, -1), None)
    sent = lowerings.Program(("a",), ("b", "c"), (op,), constants, (), ("float", ""), shapes)
    assert same(sent, read(encode(sent), tmp_path))


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    text = lowerings.Constant("string", np.array(["a"], object))
    with pytest.raises(UnsupportedError, match="text"):
        encode(lowerings.Program((), ("t",), (), {"t": text}))
    with pytest.raises(BackendError, match="no program"):
        read(resnet().to_bytes(), tmp_path)
    with pytest.raises(ModelError):
        ProgramModel(relu(), Precisions()).to_path()
