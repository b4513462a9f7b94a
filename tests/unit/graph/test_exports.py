from __future__ import annotations

import os
import typing
from pathlib import Path

import onnx
import onnx_ir as ir

import dioe.graph
from dioe.graph import Model, Source
from tests.unit.graph import models


def test_every_name_is_there_and_sorted() -> None:
    names = dioe.graph.__all__
    assert all(hasattr(dioe.graph, name) for name in names)
    assert sorted(names, key=lambda name: (not name.isupper(), name)) == names


def test_op_types_of_the_kinds_of_blocks_do_not_overlap() -> None:
    sets = [
        getattr(dioe.graph, name) for name in ("CONTROL", "CONV", "MATMUL", "NORM", "RECURRENT")
    ]
    assert all(sets)
    assert len(frozenset().union(*sets)) == sum(map(len, sets))


def test_a_source_is_what_load_takes(tmp_path: Path) -> None:
    assert typing.get_type_hints(Model.load)["source"] == Source
    proto = models.conv_net()
    data = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    loaded = Model.load(proto)
    sources: dict[object, Source] = {
        str: str(path),
        os.PathLike[str]: path,
        bytes: data,
        bytearray: bytearray(data),
        memoryview: memoryview(data),
        onnx.ModelProto: proto,
        ir.Model: ir.from_proto(proto),
        Model: loaded,
    }
    assert set(typing.get_args(Source)) == set(sources)
    assert {Model.load(source).sha256 for source in sources.values()} == {loaded.sha256}
