"""ONNX Runtime's exceptions as DIOE's errors."""

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

# ONNX Runtime has typed exceptions for session.run, but run_with_iobinding raises RuntimeError
# with the same text, so the text decides.
_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate memory", "out of memory")
_UNSUPPORTED = (
    "not_implemented",
    "no op registered",
    "is not a registered function",
    "not currently registered or supported",
    "under development",
    "only *guarantees* support",
    "unsupported model ir version",
    "exception during initialization",  # what a kernel says that can't do what a node asks for
    "unrecognized attribute",  # of a newer opset than this release knows
    "type error: type parameter",  # a function's body that isn't there in this dtype
)
_INPUT = (
    "invalid_argument",
    "unexpected input data type",
    "unexpected output data type",
    "missing input",
    "failed to find nodearg",
    "has shape",
)
_MODEL = ("invalid_graph", "invalid_protobuf", "no_suchfile", "no_model", "model_load")
_SOURCE = re.compile(r"/onnxruntime_src/\S+ ?")
_SIGNATURE = re.compile(  # of the C++ function that raised
    r"(?:(?:virtual|static|void|const|[\w:]+::[\w:<>]+) )*onnxruntime::[\w:<>~]+"
    r"\((?:[^()]|\([^()]*\))*\)(?:::<lambda\(\w*\)>)?(?: const)?(?: \[with [^\]]*\])? ?"
)


def _text(error: BaseException) -> str:
    text = _SOURCE.sub("", str(error)).replace("[ONNXRuntimeError] : ", "")
    return _SIGNATURE.sub("", " ".join(text.split()))


def run_error(error: BaseException, place: str) -> DioeError:
    """What ``error``, raised while binding or running, is in the contract's terms."""
    text = _text(error)
    low = text.lower()
    if isinstance(error, MemoryError) or any(mark in low for mark in _MEMORY):
        return OutOfMemory(text, place=place)
    if any(mark in low for mark in _INPUT):
        return InputError(text, place=place)
    return BackendError(text, place=place)


def compile_error(error: BaseException, place: str) -> DioeError:
    """What ``error``, raised while making a session, is in the contract's terms."""
    text = _text(error)
    low = text.lower()
    if isinstance(error, MemoryError) or any(mark in low for mark in _MEMORY):
        return OutOfMemory(text, place=place)
    if any(mark in low for mark in _UNSUPPORTED):
        return UnsupportedError(text, place=place)
    if any(mark in low for mark in _MODEL):
        return ModelError(text, place=place)
    return BackendError(text, place=place)
