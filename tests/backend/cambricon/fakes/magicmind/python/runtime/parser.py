"""``Parser``."""

from __future__ import annotations

from typing import Any

import onnx
import onnx.reference

from ..._contract import BUILD, Strict, seen
from ._build import Network
from ._enums import ModelKind
from ._values import GOOD, Status, bad


class Parser(Strict):
    @seen(BUILD)
    def __init__(self, kind: ModelKind) -> None:
        if kind is not ModelKind.kOnnx:
            raise NotImplementedError("the fake reads ONNX only")

    @seen(BUILD)
    def parse(self, network: Network, path: str) -> Status:
        try:
            model = onnx.load(path)
            for node in model.graph.node:
                if node.domain not in ("", "ai.onnx") or any(
                    a.HasField("g") for a in node.attribute
                ):
                    return bad(f"operator {node.domain}::{node.op_type} is not supported")
            onnx.reference.ReferenceEvaluator(model)
        except Exception as error:  # noqa: BLE001 - a parser says what it can't read
            return bad(f"{type(error).__name__}: {error}")
        network._model = model
        return GOOD


def __getattr__(name: str) -> Any:
    raise AttributeError(f"magicmind.python.runtime.parser has no {name!r} that was seen")
