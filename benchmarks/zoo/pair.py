"""PP-OCR's recogniser beside an LSTM network, in one graph: two halves that want two backends.

Neither half reads anything of the other, so a plan may run them one after the other on whatever is
best for each. They cost about the same, each on its best backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, limits
from benchmarks.zoo.export import made
from benchmarks.zoo.ocr import RECOGNISER
from benchmarks.zoo.recurrent import LSTM
from dioe.cli.fetch import file_sha256
from dioe.types import Array, ModelError

if TYPE_CHECKING:
    import onnx

_REVISION = 1
"""Of this module's way of joining graphs; a change makes the file anew."""

_HALVES = {"rec_": RECOGNISER, "lstm_": LSTM}


def side_by_side(models: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """One model that holds several, unconnected, in their order: every name gets its model's
    prefix, and so do the symbols of dynamic dimensions.

    Raises ModelError for models of different opsets.
    """
    import onnx
    from onnx import compose

    opsets = {
        tuple(sorted((entry.domain, entry.version) for entry in model.opset_import))
        for model in models.values()
    }
    if len(opsets) != 1:
        raise ModelError(
            f"models side by side need the same opsets, not {sorted(opsets)}",
            fix="convert them with onnx.version_converter",
        )
    joined: onnx.GraphProto | None = None
    for prefix, model in models.items():
        part = compose.add_prefix(model, prefix).graph
        _prefix_symbols(part, prefix)
        joined = part if joined is None else compose.merge_graphs(joined, part, io_map=[])
    if joined is None:
        raise ModelError("there are no models to put side by side")
    joined.name = "_beside_".join(prefix.rstrip("_") for prefix in models)
    joined.doc_string = ""
    first = next(iter(models.values()))
    version = max(model.ir_version for model in models.values())
    return onnx.helper.make_model(joined, opset_imports=first.opset_import, ir_version=version)


def _prefix_symbols(graph: onnx.GraphProto, prefix: str) -> None:
    """A symbol that two models happen to share must not tie their sizes together."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = prefix + dim.dim_param


def joined_feed(feeds: Mapping[str, Feed]) -> Feed:
    """The feed of `side_by_side` models, from the feed of each by its prefix."""
    return {prefix + name: array for prefix, feed in feeds.items() for name, array in feed.items()}


def half(run: Run, prefix: str, others: Mapping[str, Feed]) -> Run:
    """``run`` of `side_by_side` models as the run of one of them: the others get ``others``."""

    def run_half(feed: Feed) -> Mapping[str, Array]:
        outputs = run(joined_feed({**others, prefix: feed}))
        return {
            name.removeprefix(prefix): array
            for name, array in outputs.items()
            if name.startswith(prefix)
        }

    return run_half


def _write(paths: Mapping[str, Path], path: Path) -> None:
    import onnx

    model = side_by_side({prefix: onnx.load(part) for prefix, part in paths.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _path() -> Path:
    paths = {prefix: model.path() for prefix, model in _HALVES.items()}
    parts = {
        "revision": _REVISION,
        "models": {prefix: file_sha256(path) for prefix, path in paths.items()},
    }
    return made("rec-lstm", partial(_write, paths), parts=parts)


def _feeds() -> list[Feed]:
    """The recogniser's lines, each with two utterances."""
    lines, utterances = RECOGNISER.feeds(), LSTM.feeds()
    pairs = zip(lines, cycle(utterances), strict=False)
    return [joined_feed({"rec_": line, "lstm_": said}) for line, said in pairs]


def _check(run: Run) -> Evidence:
    """Each half does its job."""
    first = {prefix: model.feeds()[0] for prefix, model in _HALVES.items()}
    found = [model.check(half(run, prefix, first)) for prefix, model in _HALVES.items()]
    return Evidence(
        ok=all(evidence.ok for evidence in found),
        text="; ".join(evidence.text for evidence in found),
        figure=min(evidence.figure for evidence in found),
    )


PAIR = BenchModel(
    name="rec-lstm",
    path=_path,
    feeds=_feeds,
    check=_check,
    shapes={
        prefix + name: shape
        for prefix, model in _HALVES.items()
        for name, shape in model.shapes.items()
    },
    source=", ".join(model.source for model in _HALVES.values()),
    licence="Apache-2.0",
    note="PP-OCR's recogniser beside the LSTM network in one graph; a line and two utterances",
    limits=limits(bf16=3e-1),
)
