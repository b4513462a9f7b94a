"""The models that DIOE's tables are about, and what shows that each of them works.

``python -m benchmarks.models`` fetches, exports and checks them all; every file is cached. Needs
what ``pip install -c constraints.txt -e '.[bench]'`` installs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.zoo.audio import BASIC_PITCH, SILERO
from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, ort_run
from benchmarks.zoo.efficientnet import EFFICIENTNET
from benchmarks.zoo.filetype import MAGIKA
from benchmarks.zoo.light import DENSENET, SHUFFLENET
from benchmarks.zoo.minilm import MINILM, MINILM_INT8
from benchmarks.zoo.ocr import CLASSIFIER, DETECTOR, RECOGNISER
from benchmarks.zoo.pair import PAIR
from benchmarks.zoo.recurrent import LSTM
from dioe.types import DioeError

__all__ = ["MODELS", "BenchModel", "Evidence", "Feed", "Run", "main"]

_ALL = (
    *(DETECTOR, RECOGNISER, CLASSIFIER, EFFICIENTNET, MINILM, MINILM_INT8),
    *(MAGIKA, BASIC_PITCH, SILERO, SHUFFLENET, DENSENET, LSTM, PAIR),
)

MODELS: dict[str, BenchModel] = {model.name: model for model in _ALL}
"""Every benchmark model by name. Nothing is fetched before a model is asked for it."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What the table says of one model; ``evidence`` is None where nothing was checked."""

    model: BenchModel
    path: Path
    ops: int
    evidence: Evidence | None

    @property
    def ok(self) -> bool:
        return self.evidence is None or self.evidence.ok

    @property
    def inputs(self) -> str:
        shapes = self.model.shapes.items()
        return "\n".join(f"{name} {'×'.join(map(str, shape)) or '()'}" for name, shape in shapes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, export and check the models named; returns the exit code (1: one doesn't work)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=main.__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(MODELS)} (default: all)")
    parser.add_argument(
        "--fetch-only", action="store_true", help="fetch models and inputs, export, don't run"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(MODELS))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    try:
        rows = [
            _row(MODELS[name], check=not options.fetch_only) for name in options.names or MODELS
        ]
    except DioeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps([_as_json(row) for row in rows], indent=2, ensure_ascii=False))
    else:
        _print_table(rows)
    return 0 if all(row.ok for row in rows) else 1


def _row(model: BenchModel, *, check: bool) -> _Row:
    import onnx

    print(f"{model.name} …", file=sys.stderr, flush=True)
    path = model.path()
    model.feeds()  # fetches what they are made of
    nodes = onnx.load(path, load_external_data=False).graph.node
    ops = sum(node.op_type != "Constant" for node in nodes)
    return _Row(model, path, ops, model.check(ort_run(path)) if check else None)


def _as_json(row: _Row) -> dict[str, object]:
    model, evidence = row.model, row.evidence
    return {
        "name": model.name,
        "path": str(row.path),
        "ops": row.ops,
        "bytes": row.path.stat().st_size,
        "inputs": {name: list(shape) for name, shape in model.shapes.items()},
        "state": dict(model.state),
        "source": model.source,
        "licence": model.licence,
        "note": model.note,
        "works": None if evidence is None else evidence.ok,
        "evidence": None if evidence is None else evidence.text,
    }


def _print_table(rows: Sequence[_Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    table.add_column("ops", justify="right")
    table.add_column("MiB", justify="right")
    for title in ("inputs", "source, licence", "what shows that it works"):
        table.add_column(title)
    for row in rows:
        model = row.model
        shown = Text("not checked") if row.evidence is None else Text(row.evidence.text)
        if not row.ok:
            shown = Text("FAILED: ", style="bold red") + shown
        table.add_row(
            model.name,
            str(row.ops),
            f"{row.path.stat().st_size / 2**20:.1f}",
            Text(row.inputs),
            Text(f"{model.source}, {model.licence}"),
            shown,
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
