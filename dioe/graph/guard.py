"""Turning what malformed models do to libraries into ModelErrors, and their names into safe text.

Models are data from anywhere. The checks in ``checking`` name what they know to look for; the rest
is caught here, around everything that reads a model, so that callers see DioeErrors only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx.checker
import onnx.defs
import onnx.shape_inference
from google.protobuf.message import Error as ProtobufError  # type: ignore[import-untyped]

from dioe.text import printable
from dioe.types import DioeError, ModelError

MALFORMED: tuple[type[Exception], ...] = (
    ValueError,  # UnicodeDecodeError among them
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,  # onnx_ir checks some data types so
    RuntimeError,  # onnx_ir's SerdeError, RecursionError, NotImplementedError
    ProtobufError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    onnx.defs.SchemaError,
)
"""What numpy, protobuf, ``onnx`` and ``onnx_ir`` raise on a malformed model."""

_LONGEST = 500  # characters of a library's message


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Raise what a library raises on a malformed model as a ModelError with the library's words.

    DioeErrors pass; so do MemoryError, OSError and everything that is no fault of the model's.
    """
    try:
        yield
    except DioeError:
        raise
    except MALFORMED as error:
        raise ModelError(
            f"is not a valid ONNX model: {words(error)}",
            place=place,
            fix="check it with onnx.checker.check_model",
        ) from error


def words(error: BaseException) -> str:
    """One line of what the first cause of an error says, without control characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    if not text or isinstance(error, LookupError | AttributeError):
        text = f"{type(error).__name__} {text}".rstrip()
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def shown(name: str) -> str:
    """A name for a message that doesn't quote it: its repr if it has characters not to print."""
    return name if name.isprintable() else repr(name)
