"""OpenVINO's exceptions as DIOE's errors. All of them are RuntimeErrors: the text decides."""

from __future__ import annotations

import re

from dioe.types import (
    BackendError,
    DioeError,
    InputError,
    ModelError,
    OutOfMemory,
    UnsupportedError,
)

_MEMORY = ("bad_alloc", "out of memory", "could not allocate", "failed to allocate")
_INPUT = ("parametermismatch", "are incompatible", "could set new shape", "can't set the")
_MODEL = ("unable to read the model", "model can't be parsed", "invalid protobuf", "is not found")
# Where in OpenVINO's sources something was thrown helps its developers only.
_NOISE = re.compile(
    r"Exception from \S+:\d+:?|Check '.*?' failed(?: at \S+:\d+:?)?|FrontEnd API failed with \w+:?"
)
_NODE = re.compile(r"<Node\([^)]*\): ([^>]*)>")
PLACE = "openvino"


def named_nodes(text: str) -> list[str]:
    """Names of the ONNX nodes that the front end's error text names."""
    return _NODE.findall(text)


def _text(error: BaseException) -> str:
    return " ".join(_NOISE.sub(" ", str(error)).split()) or " ".join(str(error).split())


def run_error(error: BaseException) -> DioeError:
    """What ``error``, raised while binding or running, is in the contract's terms."""
    text = _text(error)
    low = str(error).lower()
    if isinstance(error, MemoryError) or any(mark in low for mark in _MEMORY):
        return OutOfMemory(text, place=PLACE)
    if any(mark in low for mark in _INPUT):
        return InputError(text, place=PLACE)
    return BackendError(text, place=PLACE)


def compile_error(error: BaseException) -> DioeError:
    """What ``error``, raised while reading or compiling, is in the contract's terms.

    A model that DIOE could load and OpenVINO can't is taken as unsupported, unless the text says
    otherwise: its converters and plugins have no exception of their own for that.
    """
    text = _text(error)
    low = str(error).lower()
    if isinstance(error, MemoryError) or any(mark in low for mark in _MEMORY):
        return OutOfMemory(text, place=PLACE)
    if any(mark in low for mark in _MODEL):
        return ModelError(text, place=PLACE)
    return UnsupportedError(text, place=PLACE)
