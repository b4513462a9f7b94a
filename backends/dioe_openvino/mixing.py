"""bf16 and fp32 in one executable: some ops keep fp32 in a model compiled with a bf16 hint.

A layer that carries ``DisablePrecisionConversion`` isn't lowered, but every pass that replaces the
layer loses the mark: matrix products with constant weights, resizing, attention, all become other
layers on the way. So the model is compiled once without marks and exported, which is a `Draft`:
its description holds the layers that are executed, past all passes. Marked there and imported
again, they keep fp32. An import takes less than half of a compilation, so the draft is kept for
the next mix.

The description goes through ``CACHE_ENCRYPTION_CALLBACKS``, the public door to it: the callback
that should encrypt it on export sees it in plain XML, and what the callback that should decrypt it
on import returns is what is loaded.
"""

from __future__ import annotations

import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import openvino as ov

from dioe.types import DioeError, Precision, Precisions, StageModel
from dioe_openvino.description import Description
from dioe_openvino.errors import compile_error
from dioe_openvino.profile import runtime_layers
from dioe_openvino.source import LayerNames, OpNames

log = logging.getLogger(__name__)

KEPT_DRAFTS = 2
KEPT_BYTES = 256 * 2**20
"""Drafts kept for the next mix of the same model: they are as large as its weights."""

NO_SNIPPETS = {"SNIPPETS_MODE": "DISABLE"}
"""Attention that OpenVINO generates code for (a "snippet") multiplies in bf16 whatever its mark
says: error 2.6e-4 on PP-OCR rec and 1.3e-3 on MiniLM with every layer marked, 1e-6 without
snippets (OpenVINO 2026.4.1)."""

Compile = Callable[[Mapping[str, Any]], tuple[ov.CompiledModel, OpNames]]
"""Reads and compiles the model with a configuration; also says which layer belongs to which op."""


def _as_it_is(text: bytes) -> bytes:
    return text


PLAIN_TEXT = {"CACHE_ENCRYPTION_CALLBACKS": [_as_it_is, _as_it_is]}
"""Configuration to import what was exported from a mix: its description is plain XML."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A model compiled without marks and exported, and what its layers are made of."""

    blob: bytes
    description: Description


@dataclass(frozen=True, slots=True)
class Mix:
    """A compiled mix. ``lowered`` are the ops that should have kept fp32 and didn't, in order."""

    compiled: ov.CompiledModel
    names: LayerNames
    lowered: tuple[str, ...]


class Mixer:
    """Compiles mixes on one Core, and keeps the drafts of the models seen last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drafts: OrderedDict[tuple[object, ...], Draft] = OrderedDict()

    def compile(
        self,
        core: ov.Core,
        model: StageModel,
        precisions: Precisions,
        config: Mapping[str, Any],
        compile_plain: Compile,
    ) -> Mix:
        """``model`` with the ops that ``precisions`` wants in fp32 kept there.

        ``config`` says bf16, and is always the same but for what it measures. Raises what
        ``compile_plain`` raises, or the errors of compiling.
        """
        kept = frozenset(
            op
            for op, node in zip(model.op_ids, model.ir.graph, strict=True)
            if precisions.of(op) is Precision.FP32 and node.op_type != "Constant"
        )
        draft = self._draft(model, config, compile_plain)
        if draft.description.attention & draft.description.layers_of(kept):
            try:
                draft = self._draft(model, {**config, **NO_SNIPPETS}, compile_plain)
            except DioeError:  # perhaps only because this release has no such key
                log.info("OpenVINO keeps its snippets", exc_info=True)
        marked = draft.description.layers_of(kept)
        compiled = _import(core, draft, config, marked)
        lowered, partners = _lowered(compiled, draft, kept)
        more = draft.description.layers_of(partners)
        if not more <= marked:  # fused with a layer without a mark, whose precision counts
            compiled = _import(core, draft, config, marked | more)
            lowered, _ = _lowered(compiled, draft, kept)
        if lowered:
            log.info("%d ops are in bf16 that should be in fp32: %s", len(lowered), lowered)
        return Mix(
            compiled, draft.description.names, tuple(op for op in model.op_ids if op in lowered)
        )

    def close(self) -> None:
        """Drop the drafts."""
        with self._lock:
            self._drafts.clear()

    def _draft(self, model: StageModel, config: Mapping[str, Any], compile_plain: Compile) -> Draft:
        # The hash leaves declared shapes and names out.
        shapes = tuple(str(value.shape) for value in model.ir.graph.inputs)
        key = (model.sha256, model.op_ids, shapes, "SNIPPETS_MODE" in config)
        with self._lock:
            if key in self._drafts:
                self._drafts.move_to_end(key)
                return self._drafts[key]
        draft = _export(model, config, compile_plain)
        with self._lock:
            self._drafts[key] = draft
            while len(self._drafts) > KEPT_DRAFTS or (
                self._drafts and sum(len(d.blob) for d in self._drafts.values()) > KEPT_BYTES
            ):
                self._drafts.popitem(last=False)
        return draft


def _import(
    core: ov.Core, draft: Draft, config: Mapping[str, Any], layers: Set[str]
) -> ov.CompiledModel:
    text = draft.description.marked(layers)
    plain = {"CACHE_ENCRYPTION_CALLBACKS": [_as_it_is, lambda _: text]}
    try:
        return core.import_model(io.BytesIO(draft.blob), "CPU", {**config, **plain})
    except Exception as error:
        raise compile_error(error) from error


def _export(model: StageModel, config: Mapping[str, Any], compile_plain: Compile) -> Draft:
    seen: list[bytes] = []

    def keep(text: bytes) -> bytes:
        seen.append(text)
        return text

    plain = {"CACHE_ENCRYPTION_CALLBACKS": [keep, _as_it_is]}
    compiled, names = compile_plain({**config, **plain})
    stream = io.BytesIO()
    try:
        compiled.export_model(stream)
        return Draft(stream.getvalue(), Description(seen[0], names, model))
    except Exception as error:
        raise compile_error(error) from error


def _lowered(
    compiled: ov.CompiledModel, draft: Draft, kept: Set[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Which of the ops ``kept`` are computed in bf16, and the ops they are fused with there."""
    layers = runtime_layers(compiled, draft.description.names).values()
    low = [layer.ops for layer in layers if layer.precision == Precision.BF16]
    partners = frozenset[str]().union(*(ops for ops in low if ops & kept))
    inner = draft.description.ops_in(draft.description.attention)
    return (partners | inner) & kept, partners
