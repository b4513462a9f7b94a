"""``dioe run``: run a model once on real inputs and keep its outputs."""

from __future__ import annotations

import io
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from dioe.cli import options
from dioe.cli.terminal import console, ms, new_table, progress
from dioe.types import Array, ConfigError, InputError


def run(
    model: options.Model,
    inputs: options.Inputs = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for the outputs.", metavar="DIR")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="A plan made before.", metavar="FILE")
    ] = None,
    hardware: options.Hardware = None,
    devices: options.Devices = "auto",
    precision: options.Precision = "fp32",
    max_relative_l2: options.MaxRelativeL2 = None,
    tuning_budget: options.Budget = 30.0,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Run MODEL once on --input arrays; outputs go to --output as .npy files."""
    import dioe

    feeds = options.parse_inputs(inputs)
    if feeds is None:
        raise InputError("no inputs", place="--input", fix="give each input: --input x=picture.npy")
    with (
        progress("compiling", quiet=as_json),
        dioe.compile(
            model, hardware=hardware, devices=devices, precision=precision,
            max_relative_l2=max_relative_l2, sample_inputs=feeds, tuning_budget_s=tuning_budget,
            plan=plan,
        ) as session,
    ):  # fmt: skip
        start = time.perf_counter()
        outputs = session.run(feeds)
        run_ms = (time.perf_counter() - start) * 1e3
        targets = list(session.plan.targets)
    arrays = {file: array for name, value in outputs.items() for file, array in _files(name, value)}
    if output is not None:
        write_arrays(output, arrays)
    if as_json:
        options.print_json(
            {
                "targets": targets,
                "run_ms": run_ms,
                "outputs": [
                    {"file": str(output / file) if output else None, "name": file[: -len(".npy")],
                     "dtype": str(array.dtype), "shape": list(array.shape)}
                    for file, array in arrays.items()
                ],
            }
        )  # fmt: skip
        return
    table = new_table(f"Outputs of one run on {', '.join(targets)}: {ms(run_ms)} ms")
    for heading in ("output", "dtype", "shape", "file"):
        table.add_column(heading, overflow="fold")
    for file, array in arrays.items():
        where = str(output / file) if output else "not written: no --output"
        table.add_row(file[: -len(".npy")], str(array.dtype), str(list(array.shape)), where)
    console().print(table)


def _files(name: str, value: Any, suffix: str = "") -> list[tuple[str, Array]]:
    """File names and arrays for one output; a sequence gives one file an element."""
    if isinstance(value, list):
        return [
            pair for i, item in enumerate(value) for pair in _files(name, item, f"{suffix}.{i}")
        ]
    if isinstance(value, dict):
        return [pair for k, item in value.items() for pair in _files(name, item, f"{suffix}.{k}")]
    if value is None:
        return []
    array = np.asarray(value)
    if array.dtype.kind == "O":
        array = array.astype(str)  # .npy holds no Python objects without pickle
    elif array.dtype.kind == "V":
        array = array.astype(np.float32)  # numpy has no bf16 or fp8 of its own
    return [(re.sub(r"[^\w.\-]+", "_", name + suffix).lstrip(".") + ".npy", array)]


def write_arrays(folder: Path, arrays: dict[str, Array]) -> None:
    """Write every array or none; raises ConfigError with the reason."""
    written: list[tuple[str, Path]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            handle, name = tempfile.mkstemp(dir=folder, prefix=f".{file}.")
            written.append((name, folder / file))
            with os.fdopen(handle, "wb") as stream:
                stream.write(content.getvalue())
        for name, path in written:
            os.replace(name, path)
    except OSError as error:
        raise ConfigError(
            f"can't write: {error.strerror or error}", place=str(folder), fix="choose another place"
        ) from None
    finally:
        for name, _ in written:
            Path(name).unlink(missing_ok=True)
