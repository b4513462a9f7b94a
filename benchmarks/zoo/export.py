"""PyTorch modules to ONNX files, once: the export is cached by what it was made of."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from dioe import cachedir
from dioe.cli.fetch import file_sha256
from dioe.types import ConfigError, ModelError

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)

_VERSION = 1
"""Of this module's way of exporting; a change makes every export anew."""

_OPSET = 18  # what torch.onnx's dynamo exporter is written for; lower ones are converted down


@dataclass(frozen=True)
class Traced:
    """What `exported` turns into ONNX: a module, example arguments, and the names they get."""

    module: torch.nn.Module
    arguments: tuple[torch.Tensor, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]


def exported(
    name: str,
    build: Callable[[], Traced],
    *,
    revision: int,
    weights: Mapping[str, str],
    cache_dir: Path | None = None,
) -> Path:
    """The ONNX file of ``build()``, made with ``torch.onnx.export(dynamo=True)``, cached.

    The key is ``name``, ``revision`` (of the code behind ``build``), the sha256 of each of its
    ``weights`` and the versions of torch, onnx and onnxscript; torch is imported only where the
    file is not there. Raises ConfigError without onnxscript or with an unusable cache.
    """

    def write(path: Path) -> None:
        _export(name, build(), path)

    parts = {
        "exporter": _VERSION,
        "revision": revision,
        "weights": dict(weights),
        "versions": {tool: _version(tool) for tool in ("torch", "onnx", "onnxscript")},
    }
    return made(name, write, parts=parts, cache_dir=cache_dir)


def made(
    name: str,
    write: Callable[[Path], None],
    *,
    parts: Mapping[str, object],
    cache_dir: Path | None = None,
) -> Path:
    """The file ``name``.onnx that ``write(path)`` makes out of ``parts``, cached by those.

    ``parts`` is JSON. The file's sha256 lies beside it and is checked at every call: a damaged
    file is made again. Safe for several processes at once. Raises ConfigError for a cache that
    can't be used.
    """
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    path = (cache_dir or cachedir.cache_dir()) / "exports" / f"{name}-{key}.onnx"
    digest = path.with_suffix(".sha256")
    try:
        if _intact(path, digest):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            if not _intact(path, digest):
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as scratch:
                    part = Path(scratch) / path.name
                    write(part)
                    part_digest = part.with_suffix(".sha256")
                    part_digest.write_text(file_sha256(part) + "\n")
                    os.replace(part, path)
                    os.replace(part_digest, digest)
    except OSError as error:
        raise ConfigError(
            f"the cache can't be used: {error.strerror or error}",
            place=str(error.filename or path),
            fix=f"set {cachedir.ENVIRONMENT_VARIABLE} to a directory with space that you may "
            "write to",
        ) from error
    return path


def _intact(path: Path, digest: Path) -> bool:
    if not (path.is_file() and digest.is_file()):
        return False
    if digest.read_text().strip() == file_sha256(path):
        return True
    _LOG.warning("%s is damaged and is made again", path)
    return False


def _version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        raise ConfigError(
            f"exporting a model needs {tool}, which isn't installed",
            fix="install what benchmarks need: pip install -c constraints.txt -e '.[bench]'",
        ) from None


def _export(name: str, traced: Traced, path: Path) -> None:
    import onnx_ir as ir
    import torch

    _LOG.info("exporting %s to ONNX", name)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            traced.module.eval(),
            traced.arguments,
            dynamo=True,
            input_names=list(traced.inputs),
            output_names=list(traced.outputs),
            opset_version=_OPSET,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch.onnx.export gave no program", place=name)
    model = program.model
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces: paths of the machine that exported
    model.metadata_props.clear()
    ir.save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What torch prints and warns of goes to the log; that torchvision is absent is no news."""
    printed = io.StringIO()
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        try:
            yield
        finally:
            registration.setLevel(level)
    for line in [*printed.getvalue().splitlines(), *(str(w.message) for w in warned)]:
        _LOG.debug("torch.onnx: %s", line)
