"""One case judged: what fails it, and what the reason says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dioe.registry.worker.script import Memory
from dioe.testing.node_worker import create, reason_to_fail
from dioe.testing.nodes import node_case
from dioe.testing.subject import Subject
from dioe.types import BackendError, UnsupportedError, Value
from tests.toys.backend import ToyBackend

Outputs = dict[str, Value]


def judged(name: str, during: Callable[[Outputs], Outputs]) -> str:
    backend = ToyBackend(during=during)
    with ExitStack() as stack:
        reason = reason_to_fail(
            Subject(backend, "cpu", "nobody:asks", stack), node_case(name, as_written=True)
        )
    assert backend.count("open") == backend.count("close context") == 1
    return reason


def same(outputs: Outputs) -> Outputs:
    return outputs


def changed(change: Callable[[Any], Any]) -> Callable[[Outputs], Outputs]:
    return lambda outputs: {name: change(value) for name, value in outputs.items()}


def raising(error: BaseException) -> Callable[[Outputs], Outputs]:
    def during(outputs: Outputs) -> Outputs:
        raise error

    return during


@pytest.mark.parametrize(
    "name",
    [
        "abs",
        "add_uint8",
        "bernoulli",
        "cast_FLOAT_to_BFLOAT16",
        "cast_FLOAT_to_FLOAT4E2M1",
        "identity_sequence",
        "optional_has_element_empty_optional_input",
        "string_concat",
    ],
)
def test_a_right_backend_passes(name: str) -> None:
    assert judged(name, same) == ""


@pytest.mark.parametrize(
    ("name", "during", "says"),
    [
        ("abs", changed(lambda y: y * 1.01), "output 'y': 60 of 60 differ"),
        ("abs", changed(lambda y: y.astype(np.float64)), "output 'y' is float64, not float32"),
        ("abs", lambda outputs: {}, "outputs are [], not ['y']"),
        ("bernoulli", changed(lambda y: y / 2), "was drawn"),
        ("string_concat", changed(lambda y: y + "!"), "differ"),
        ("abs", raising(BackendError("out of order", place="here")), "BackendError: out of order"),
        ("abs", raising(ValueError("a\nbug")), "ValueError: a bug"),
    ],
)
def test_what_is_wrong_is_told(name: str, during: Callable[[Outputs], Outputs], says: str) -> None:
    reason = judged(name, during)
    assert says in reason
    assert "\n" not in reason


PLUGIN = """
from tests.toys.backend import ToyBackend

def backends():
    return [ToyBackend("one"), ToyBackend("two")]
"""


def test_a_handler_is_made_for_one_backend_of_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"twins_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(PLUGIN)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    args = {"plugin": f"{module}:backends", "backend": "two", "device": "cpu"}
    handler = create(args)
    assert handler.handle("judge", {"case": "abs"}, Memory()) == {"reason": ""}
    with pytest.raises(UnsupportedError, match="no backend 'three'"):
        create(args | {"backend": "three"})
    with pytest.raises(UnsupportedError, match="no_such_module"):
        create(args | {"plugin": "no_such_module:backends"})
