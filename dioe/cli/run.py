"""``dioe run``: run a model once on real inputs and keep its outputs."""

from __future__ import annotations

import io
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape

from dioe.cli import costs, limit_options, options
from dioe.cli.files import ARRAY, check_output, write_files
from dioe.cli.plan_text import is_mixed, plan_title, print_stages
from dioe.cli.terminal import console, known, ms, new_table, progress
from dioe.text import printable
from dioe.types import Array, ConfigError, Plan, Stage, Value


def run(
    context: typer.Context,
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
    pin: options.Pins = None,
    strict: options.Strict = False,
    memory_limit: limit_options.MemoryLimits = None,
    forbid: limit_options.Forbidden = None,
    max_stages: limit_options.MaxStages = None,
    power_cap: limit_options.PowerCap = None,
    precision: options.Precision = "fp32",
    max_relative_l2: options.MaxRelativeL2 = None,
    tuning_budget: options.Budget = 30.0,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Run MODEL once on --input arrays; outputs go to --output as .npy files."""
    import dioe
    from dioe.tuning.reports import known_as

    if plan is not None:
        options.check_beside_plan(context, "--plan")
    feeds = options.parse_inputs(inputs) or {}
    if output is not None:
        check_folder(output)
    settings: dict[str, Any] = {"plan": plan}
    if plan is None:
        costs.history()
        settings = {
            "devices": devices, "precision": precision, "max_relative_l2": max_relative_l2,
            "pins": pin or (), "strict": strict,
            "limits": limit_options.parse_limits(memory_limit, forbid, max_stages, power_cap),
        }  # fmt: skip
    with (
        progress("compiling", quiet=as_json),
        dioe.compile(
            model, hardware=hardware, sample_inputs=feeds, tuning_budget_s=tuning_budget, **settings
        ) as session,
    ):
        start = time.perf_counter()
        outputs = session.run(feeds)
        run_ms = (time.perf_counter() - start) * 1e3
        used = session.plan
    modelled = modelled_stages(used)
    found = _named_files(outputs)
    if output is not None:
        read = [model, plan, hardware, *options.input_files(inputs)]
        write_arrays(output, {file: array for file, _, array in found}, read)
    if as_json:
        options.print_json(
            {
                "targets": list(used.targets),
                "stages": [
                    {"name": stage.name, "target": str(stage.target), "ops": len(stage.ops),
                     "modelled": stage in modelled}
                    for stage in used.stages
                ],
                "run_ms": run_ms,
                "known_as": str(known_as(used)),
                "outputs": [
                    {"file": str(output / file) if output else None, "name": name,
                     "dtype": str(array.dtype), "shape": list(array.shape)}
                    for file, name, array in found
                ],
            }
        )  # fmt: skip
        return
    if is_mixed(used):
        print_stages(console(), used)
    table = new_table("Outputs")
    for heading in ("output", "dtype", "shape", "file"):
        table.add_column(heading, overflow="fold")
    for file, name, array in found:
        where = str(output / file) if output else "not written: no --output"
        shape = str(list(array.shape))
        table.add_row(escape(printable(name)), str(array.dtype), escape(shape), escape(where))
    out = console()
    out.print(table)
    out.print(
        f"{ms(run_ms)} ms{known(known_as(used))} on {printable(plan_title(used))}: the first run, "
        "nothing warmed up",
        markup=False,
    )
    if modelled:
        out.print(_zeros_text(used, modelled, outputs), markup=False)


def modelled_stages(plan: Plan) -> list[Stage]:
    """The stages of a plan that are on devices which are descriptions only."""
    from dioe.runtime import Runtime
    from dioe.tuning.modelled import modelled_devices

    devices = modelled_devices(Runtime.current().registry)
    return [stage for stage in plan.stages if stage.target.device in devices]


def _zeros_text(plan: Plan, modelled: Sequence[Stage], outputs: Iterable[str]) -> str:
    """What the outputs of a run with modelled stages are worth."""
    from dioe.tuning.modelled import MEANINGLESS

    made_of_zeros: set[str] = set()
    for stage in plan.stages:
        if stage in modelled or made_of_zeros.intersection(stage.inputs):
            made_of_zeros.update(stage.outputs)
    names = ", ".join(f"{stage.name} on {stage.target}" for stage in modelled)
    come = ", ".join(name for name in outputs if name in made_of_zeros)
    return printable(f"{MEANINGLESS} ({names}); made of its zeros: {come}")


def _named_files(outputs: Mapping[str, Value]) -> list[tuple[str, str, Array]]:
    """A file name for each tensor in the outputs, its own name, and what to write."""
    found: list[tuple[str, str, Array]] = []
    taken: set[str] = set()
    for output, value in outputs.items():
        for name, array in _tensors(output, value):
            stem = re.sub(r"[^\w.\-]+", "_", name).lstrip(".") or "output"
            number = itertools.count(2)
            file = f"{stem}.npy"
            while file.lower() in taken:  # names that differ only in what a file name can't hold
                file = f"{stem}-{next(number)}.npy"
            taken.add(file.lower())
            found.append((file, name, array))
    return found


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """The tensors of one output: one, those of a sequence or map by their place, or none."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _tensors(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(f"{name}.{key}", item)
    elif value is not None:
        array = np.asarray(value)
        if array.dtype.kind == "O":
            array = array.astype(str)  # .npy holds no Python objects without pickle
        elif array.dtype.kind == "V":
            array = array.astype(np.float32)  # numpy has no bf16 or fp8 of its own
        yield name, array


def check_folder(folder: Path) -> None:
    """Raise ConfigError if files can't be put into ``folder``, which need not be there yet."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise ConfigError(f"{there} is no folder", place=str(folder), fix="choose another place")


def write_arrays(
    folder: Path, arrays: Mapping[str, Array], inputs: Sequence[str | Path | None]
) -> None:
    """Write every array or none; raises ConfigError with the reason, and InputError where one of
    the ``inputs``, or another kind of file, would be overwritten."""
    contents: dict[Path, bytes] = {}
    for file, array in arrays.items():
        if folder.is_dir():
            check_output(folder / file, ARRAY, inputs)
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        contents[folder / file] = content.getvalue()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"can't make the folder: {error.strerror or error}",
            place=str(folder),
            fix="choose another place",
        ) from None
    write_files(contents)
