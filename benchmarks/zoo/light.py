"""Full-size architectures of the onnx package whose weights are placeholders, made random here.

The files (``onnx/backend/test/data/light``) fill every weight with one constant: outputs would
prove nothing, or be NaN. Convolutions get He-scaled normal weights
(https://arxiv.org/abs/1502.01852), batch norms variances in [0.5, 1.5]. As in
https://arxiv.org/abs/1706.02677 (5.1), those that end a residual branch get a small scale and the
last layer small weights: or the softmax has one class left. Seeded, so one file everywhere. They
are for speed and fidelity, not accuracy; their inputs are real photos.
"""

from __future__ import annotations

import math
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, limits, only
from benchmarks.zoo.efficientnet import photo_files, prepared
from benchmarks.zoo.export import made
from dioe.cli.demo_model import open_picture
from dioe.cli.fetch import file_sha256
from dioe.types import Array, ModelError

_REVISION = 1
"""Of this module's way of filling weights; a change makes the files anew."""

_SEED = 20170713
_IR_VERSION = 8  # from 4 on, an initializer need not be an input
_PHOTOS = 4
_KEEPS_SIGN = frozenset({"MaxPool", "AveragePool", "Reshape", "Transpose", "Concat"})


def randomize(model: ir.Model, seed: int) -> None:
    """Give ``model`` random weights, as initializers, where it has ``ConstantOfShape`` nodes.

    A weight's distribution follows from the operator that reads it (through ``Unsqueeze``). The
    inputs left are those the model is fed. Raises ModelError for a weight in an unknown place.
    """
    rng = np.random.default_rng(seed)
    graph = model.graph
    for node in [node for node in graph if node.op_type == "ConstantOfShape"]:
        old, shape = node.outputs[0], node.inputs[0]
        if shape is None or shape.const_value is None:
            raise ModelError("the shape of a weight isn't constant", place=str(old.name))
        values = _weight(rng, tuple(shape.const_value.numpy().tolist()), *_reader(old))
        weight = ir.val(old.name, const_value=ir.tensor(values, name=old.name))
        ir.convenience.replace_all_uses_with(old, weight)
        graph.remove(node, safe=True)
        graph.register_initializer(weight)
    for name, value in list(graph.initializers.items()):
        if not value.uses():
            del graph.initializers[name]
    graph.inputs[:] = [v for v in graph.inputs if v.uses() and v.const_value is None]
    model.ir_version = _IR_VERSION


def _reader(value: ir.Value) -> tuple[ir.Node, int]:
    """The operator that reads a weight, and at which of its inputs."""
    node, index = next(iter(value.uses()))
    return _reader(node.outputs[0]) if node.op_type == "Unsqueeze" else (node, index)


def _after_relu(value: ir.Value | None) -> bool:
    """Whether ``value`` is a rectifier's output, perhaps pooled, reshaped or shuffled."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type not in {"Relu", *_KEEPS_SIGN}:
        return False
    return producer.op_type == "Relu" or _after_relu(producer.inputs[0])


def _weight(rng: np.random.Generator, shape: tuple[int, ...], node: ir.Node, index: int) -> Array:
    """A weight for input ``index`` of ``node``; float32."""
    match node.op_type, index:
        case "Conv", 1:  # He's factor 2 makes up for what a rectifier took away
            gain = 2 if _after_relu(node.inputs[0]) else 1
            values = rng.normal(0, math.sqrt(gain / math.prod(shape[1:])), shape)
        case "Gemm", 1:
            values = rng.normal(0, 0.01, shape)
        case "BatchNormalization", 1:
            ends_branch = any(user.op_type == "Sum" for user, _ in node.outputs[0].uses())
            values = rng.uniform(0.1, 0.3, shape) if ends_branch else rng.uniform(0.8, 1.2, shape)
        case "Mul", _:
            values = rng.uniform(0.8, 1.2, shape)
        case ("BatchNormalization", 2 | 3) | ("Conv" | "Gemm", 2) | ("Add", _):
            values = rng.normal(0, 0.1, shape)
        case "BatchNormalization", 4:
            values = rng.uniform(0.5, 1.5, shape)
        case _:
            raise ModelError(
                f"no rule for a weight at input {index} of {node.op_type}", place=str(node.name)
            )
    return values.astype(np.float32)


def _write(source: Path, path: Path) -> None:
    model = ir.load(source)
    randomize(model, _SEED)
    ir.save(model, path)


def _path(name: str, sha256: str) -> Path:
    import onnx

    source = Path(onnx.__file__).parent / "backend/test/data/light" / f"light_{name}.onnx"
    if not source.is_file() or file_sha256(source) != sha256:
        raise ModelError(
            f"this onnx ({onnx.__version__}) doesn't carry the file the benchmarks are pinned to",
            place=str(source),
            fix="install the versions of constraints.txt",
        )
    parts = {
        "revision": _REVISION,
        "seed": _SEED,
        "source": sha256,
        "versions": {tool: version(tool) for tool in ("numpy", "onnx-ir")},
    }
    return made(name, partial(_write, source), parts=parts)


def _feeds(name: str) -> list[Feed]:
    return [{name: prepared(open_picture(path))} for path in photo_files()[:_PHOTOS]]


def _check(name: str, run: Run) -> Evidence:
    """Outputs are finite, and different photos give different ones."""
    outputs = np.stack([only(run(feed)).ravel() for feed in _feeds(name)]).astype(np.float64)
    finite = bool(np.isfinite(outputs).all())
    mean = outputs.mean(axis=0)
    spread = float(
        np.linalg.norm(outputs - mean) / np.linalg.norm(np.broadcast_to(mean, outputs.shape))
    )
    return Evidence(
        ok=finite and spread > 1e-3,
        text=f"outputs {'finite' if finite else 'NOT finite'}, {spread:.1%} apart between photos",
        figure=spread,
    )


def _model(name: str, sha256: str, *, fed: str, bf16: float, title: str) -> BenchModel:
    return BenchModel(
        name=name,
        path=partial(_path, name, sha256),
        feeds=partial(_feeds, fed),
        check=partial(_check, fed),
        shapes={fed: (1, 3, 224, 224)},
        source=f"onnx, light_{name}.onnx",
        licence="Apache-2.0",
        note=f"{title}, random weights; foolbox's photos",
        limits=limits(bf16=bf16),
    )


SHUFFLENET = _model(
    "shufflenet",
    "c6f406d62be36d6b4572542c0950a2abd59f56237068793290680bba89fbafe5",
    fed="gpu_0/data_0",
    bf16=4e-2,
    title="ShuffleNet v1",
)
DENSENET = _model(
    "densenet121",
    "49ddb5712797d6164f1d864bedaad927de4f3909ad1b4ba390a92c2f8150e9f6",
    fed="data_0",
    bf16=1e-2,
    title="DenseNet-121",
)
