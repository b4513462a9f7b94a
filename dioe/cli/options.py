"""Options that commands share, and what they turn into."""

from __future__ import annotations

import json
import logging
import sys
import tokenize
import warnings
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from dioe.cli.terminal import emit
from dioe.types import Array, InputError

Model = Annotated[str, typer.Argument(help="ONNX file.", show_default=False, metavar="MODEL")]
Hardware = Annotated[
    str | None,
    typer.Option(
        help="YAML file of a pool, or one's name in the catalogue, instead of this machine.",
        envvar="DIOE_HARDWARE",
    ),
]
Devices = Annotated[
    str,
    typer.Option(
        help="Devices or targets to use, comma-separated: cpu, cpu/openvino.", envvar="DIOE_DEVICES"
    ),
]
Pins = Annotated[
    list[str] | None,
    typer.Option(
        "--pin",
        help="Ops that have to run somewhere: a pattern of names, or of types (type:Conv).",
        metavar="PATTERN=TARGET",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail where a pin can't be kept; no unnamed last resort.")
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", help="Shape of an input, such as x=1,3,640,640.", metavar="NAME=DIMS"),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="A real input, such as x=picture.npy.", metavar="NAME=FILE.npy"),
]
Precision = Annotated[
    str,
    typer.Option(
        help="fp32 (as written), auto, or one of bf16, fp16, int8.", envvar="DIOE_PRECISION"
    ),
]
MaxRelativeL2 = Annotated[
    float | None,
    typer.Option("--max-relative-l2", help="Largest relative L2 error of an output."),
]
Budget = Annotated[
    float,
    typer.Option(
        "--tuning-budget",
        help="Seconds for measuring; 0 takes a default.",
        envvar="DIOE_TUNING_BUDGET",
    ),
]
WritePool = Annotated[
    Path | None, typer.Option("--write", help="Write the machine as a pool file.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _set_verbosity(level: int) -> int:
    names = {0: logging.WARNING, 1: logging.INFO}
    logging.basicConfig(stream=sys.stderr, format="dioe: %(message)s")
    logging.getLogger("dioe").setLevel(names.get(level, logging.DEBUG))
    return level


_debug = False


def _set_debug(on: bool) -> bool:
    global _debug  # noqa: PLW0603 - one command runs in a process
    _debug = on
    return on


def debugging() -> bool:
    """True if ``--debug`` was given."""
    return _debug


Verbose = Annotated[
    int,
    typer.Option(
        "-v", "--verbose", count=True, callback=_set_verbosity, show_default=False,
        help="Say more, twice for still more.",
    ),
]  # fmt: skip
Debug = Annotated[
    bool,
    typer.Option("--debug", callback=_set_debug, envvar="DIOE_DEBUG", help="Show tracebacks."),
]


def check_beside_plan(context: typer.Context, plan: str, *more: str) -> None:
    """Raise InputError for an option on the command line that a plan made before has decided.

    ``plan`` is the option that names it, ``more`` are parameters that mean nothing beside it. What
    comes from the environment is no order for this command: there the plan wins.
    """
    limits = ("memory_limit", "forbid", "max_stages", "power_cap")
    decided = ("devices", "pin", "strict", "precision", "max_relative_l2", *limits, *more)
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name in decided and source is not None and source.name == "COMMANDLINE":
            option = max(parameter.opts, key=len)
            raise InputError(
                f"{option} is given beside {plan}, whose plan was made before and has decided that",
                place=option,
                fix=f"leave {option} out, or leave {plan} out to tune with it",
            )


def json_text(data: Any) -> str:
    """One JSON object; what JSON has no word for (NaN, Inf) becomes null."""
    return json.dumps(_finite(data), indent=2, ensure_ascii=False, default=str) + "\n"


def print_json(data: Any) -> None:
    """Print ``json_text`` on stdout."""
    emit(json_text(data))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not np.isfinite(data):
        return None
    return data


def parse_shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    """``["x=1,3,640,640"]`` as ``{"x": (1, 3, 640, 640)}``; raises InputError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts or []:
        # a name may hold "=" or ":", dimensions may not
        name, equals, dims = text.rpartition("=")
        try:
            sizes = tuple(int(d) for d in dims.split(",")) if dims else ()
        except ValueError:
            sizes = (-1,)
        if not equals or not name or any(d < 0 for d in sizes):
            raise InputError(f"{text!r} is no shape", place="--shape", fix="write x=1,3,640,640")
        _check_new(name, shapes, "--shape")
        shapes[name] = sizes
    return shapes


def parse_inputs(texts: list[str] | None) -> dict[str, Array] | None:
    """``["x=f.npy"]`` as ``{"x": array}``, None if there is none; raises InputError."""
    if not texts:
        return None
    arrays: dict[str, Array] = {}
    for text in texts:
        name, file = _split_input(text)
        _check_new(name, arrays, "--input")
        arrays[name] = _load_array(file)
    return arrays


def input_files(texts: list[str] | None) -> list[str]:
    """``["x=f.npy"]`` as ``["f.npy"]``; raises InputError."""
    return [_split_input(text)[1] for text in texts or []]


def _check_new(name: str, given: Container[str], option: str) -> None:
    if name in given:
        raise InputError(f"{name!r} is given twice", place=option, fix="give it once")


def _split_input(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not Path(file).exists() and "=" in file:  # a name with "=" in it
        name, equals, file = text.rpartition("=")
    if not equals or not name or not file:
        raise InputError(f"{text!r} is no input", place="--input", fix="write x=picture.npy")
    return name, file


def _load_array(file: str) -> Array:
    try:
        with open(file, "rb") as stream:
            magic = stream.read(len(_NPY_MAGIC))
        if magic[:2] == b"PK":
            raise InputError(
                "an archive (.npz?), not one array",
                place=file,
                fix="give a .npy file for each input",
            )
        if magic != _NPY_MAGIC:
            raise InputError("not a .npy file", place=file, fix=_SAVE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
            array: Array = np.load(file, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"can't read it: {reason}", place=file, fix=_SAVE) from None
    except _DAMAGED as error:
        # numpy's second sentence tells how to unpickle it, which would run what is in the file
        reason = str(error).partition(" when allow_pickle")[0]
        if reason.startswith("Object arrays"):
            raise InputError(
                "an array of Python objects, not of numbers or text",
                place=file,
                fix="numpy.save it with a type: array.astype('float32'), or astype(str) for text",
            ) from None
        raise InputError(f"a damaged .npy file: {reason}", place=file, fix=_SAVE) from None
    return array


# what numpy lets through from the parsers that it reads a header with
_DAMAGED = (ValueError, TypeError, OverflowError, EOFError, SyntaxError, tokenize.TokenError)
_NPY_MAGIC = b"\x93NUMPY"
_SAVE = "name a file that numpy.save wrote"
