"""What the fakes share: where each attribute was seen, a record of the calls, strict objects."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

CALLS_VARIABLE = "DIOE_FAKE_CALLS"
"""Names the file that calls are written to, one JSON object a line; nothing is without it."""

CLOUD = "github.com/Cambricon/magicmind_cloud: "
PROCESS = CLOUD + "buildin/python_common/model_process.py"
RUNNER = CLOUD + "buildin/python_common/mm_runner.py"
CALIBRATE = CLOUD + "buildin/python_common/common_calibrate.py"
PARSER = CLOUD + "buildin/python_common/framework_parser.py"
BUILD = CLOUD + "buildin/cv/detection/hoitransformer_pytorch/gen_model/gen_model.py"
SAMPLES = CLOUD + "calibrator.py of its models"
YOLOX = "a public port of YOLOX that imports magicmind.python.common.types"

SEEN: dict[str, str] = {}
"""Each attribute of the fakes, and the public source that it was seen in."""

F = TypeVar("F", bound=Callable[..., Any])


def seen(where: str) -> Callable[[F], F]:
    """Mark a function as seen in a public source; its calls are recorded in their order."""

    def mark(function: F) -> F:
        name = function.__qualname__
        SEEN[name] = where

        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            bare = args[1:] if "." in name and not _is_static(name) else args
            record(name.replace(".__init__", ""), [_short(arg) for arg in bare])
            return function(*args, **kwargs)

        return recorded  # type: ignore[return-value]

    return mark


def _is_static(name: str) -> bool:
    return name == "Status.OK"


def record(call: str, args: list[Any]) -> None:
    """Write one call down."""
    path = os.environ.get(CALLS_VARIABLE)
    if path:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"call": call, "args": args}) + "\n")


def _short(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    if hasattr(value, "GetDims"):
        return value._dims
    return getattr(value, "name", type(value).__name__)


class Strict:
    """An object with the attributes that were seen and no others, to read or to set."""

    settable: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            if name not in self.settable:
                raise AttributeError(f"{type(self).__name__}.{name} was never seen to be set")
            record(f"{type(self).__name__}.{name} =", [_short(value)])
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} has no {name!r} that was seen anywhere")
