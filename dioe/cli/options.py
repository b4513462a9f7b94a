"""Options that commands share, and what they turn into."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from dioe.types import Array, InputError

Model = Annotated[str, typer.Argument(help="ONNX file.", show_default=False, metavar="MODEL")]
Hardware = Annotated[
    str | None,
    typer.Option(help="YAML file of a pool, instead of this machine.", envvar="DIOE_HARDWARE"),
]
Devices = Annotated[
    str,
    typer.Option(
        help="Devices or targets to use, comma-separated: cpu, cpu/openvino.", envvar="DIOE_DEVICES"
    ),
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


def print_json(data: Any) -> None:
    """Print one JSON object on stdout; what JSON has no word for (NaN, Inf) becomes null."""
    text = json.dumps(_finite(data), indent=2, ensure_ascii=False, default=str)
    print(text)  # noqa: T201 - stdout is where results go


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
        shapes[name] = sizes
    return shapes


def parse_inputs(texts: list[str] | None) -> dict[str, Array] | None:
    """``["x=f.npy"]`` as ``{"x": array}``, None if there is none; raises InputError."""
    if not texts:
        return None
    return dict(_load_input(text) for text in texts)


def _load_input(text: str) -> tuple[str, Array]:
    name, equals, file = text.partition("=")
    if not Path(file).exists() and "=" in file:  # a name with "=" in it
        name, equals, file = text.rpartition("=")
    if not equals or not name or not file:
        raise InputError(f"{text!r} is no input", place="--input", fix="write x=picture.npy")
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"can't read it: {error.strerror or error}", place=file) from None
    except (ValueError, EOFError) as error:
        raise InputError(
            f"not a .npy file: {error}", place=file, fix="write one with numpy.save"
        ) from None
    if not isinstance(array, np.ndarray):
        raise InputError("holds several arrays", place=file, fix="give one .npy file an input")
    return name, array
