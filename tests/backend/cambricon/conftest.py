"""A Python with the fakes of Cambricon's packages installed, as an owner of a card has the real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dioe.types import Context, Resources
from dioe_cambricon.backend import MagicMindBackend
from dioe_cambricon.host import VARIABLE, CambriconHost
from dioe_cambricon.torch_backend import TorchMluBackend
from tests.backend.cambricon.fakes.magicmind._contract import CALLS_VARIABLE
from tests.backend.cambricon.vendor import make_vendor_python
from tests.backend.cards import Counted


@pytest.fixture(scope="session")
def vendor_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter of a virtual environment that finds the fakes, and numpy and onnx here."""
    return make_vendor_python(tmp_path_factory.mktemp("vendor"))


@dataclass
class Calls:
    """What the fakes wrote down of the calls to them."""

    path: Path

    def __call__(self) -> list[tuple[str, list[Any]]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [(call["call"], call["args"]) for call in map(json.loads, lines)]

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The record of the calls; ask for it before the backend, whose worker inherits its name."""
    path = tmp_path / "calls.jsonl"
    monkeypatch.setenv(CALLS_VARIABLE, str(path))
    return Calls(path)


@pytest.fixture
def magicmind(
    vendor_python: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MagicMindBackend]:
    """The backend on the fakes, found as users have it found: by the variable."""
    monkeypatch.setenv(VARIABLE, str(vendor_python))
    host = CambriconHost("magicmind", "cambricon.magicmind")
    yield MagicMindBackend(host)
    host.close()


@pytest.fixture
def card(magicmind: MagicMindBackend) -> Iterator[Callable[[], Context]]:
    """Contexts on the card, closed after the test."""
    with ExitStack() as stack:

        def opened() -> Context:
            context = magicmind.open("mlu:0", Resources())
            stack.callback(context.close)
            return context

        yield opened


@pytest.fixture
def torch_mlu(
    vendor_python: Path, calls: Calls, simulated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TorchMluBackend]:
    """The backend on the fake of torch_mlu, whose tensors are those of the simulated device."""
    from dioe_torch.simulated import reason_unavailable
    from dioe_torch.simulated.build import library

    reason = reason_unavailable()
    if reason is not None:
        pytest.skip(reason)
    library()  # here, for it may take longer than a worker may
    monkeypatch.setenv(VARIABLE, str(vendor_python))
    host = CambriconHost("torch_mlu", "cambricon.torch")
    yield TorchMluBackend(host)
    host.close()


@pytest.fixture
def copies(torch_mlu: TorchMluBackend, calls: Calls) -> Iterator[Callable[[], Counted]]:
    """What the simulated devices in the worker counted by now: the fake of torch_mlu writes it
    down when it is asked for a card's free memory."""
    context = torch_mlu.open("mlu:0", Resources())

    def counted() -> Counted:
        context.memory_info()
        (found,) = [args for name, args in calls() if name == "copies"][-1]
        return {
            purpose: {way: (moved[0], moved[1]) for way, moved in ways.items()}
            for purpose, ways in found.items()
        }

    yield counted
    context.close()
