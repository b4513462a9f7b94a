"""Sessions on plans that no tuning made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx
import pytest

from dioe.graph import Model
from dioe.runtime import Runtime, Session
from dioe.types import Dim
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.plans import plan_for

Shapes: TypeAlias = Mapping[str, Sequence[Dim]]
MakeSession: TypeAlias = Callable[..., Session]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2024)


@pytest.fixture
def toy() -> ToyBackend:
    return ToyBackend()


@pytest.fixture
def runtime(toy: ToyBackend) -> Iterator[Runtime]:
    """A runtime with the toy backend, ONNX Runtime and the reference, of this test alone."""
    runtime = Runtime(registry_of(toy, installed=("onnxruntime", "openvino", "reference")))
    yield runtime
    runtime.close()


@pytest.fixture
def make_session(runtime: Runtime) -> Iterator[MakeSession]:
    """A session for a model on a target, one variant for each of ``shapes``; closed afterwards."""
    sessions: list[Session] = []

    def make(
        proto: onnx.ModelProto,
        *shapes: Shapes,
        target: str = "cpu/onnxruntime/fp32",
        state: Mapping[str, str] | None = None,
    ) -> Session:
        model = Model.load(proto)
        plans = [plan_for(model, target, each) for each in shapes or (None,)]
        session = Session(model, plans, runtime=runtime, state=state)
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()
