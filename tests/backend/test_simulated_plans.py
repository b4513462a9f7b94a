"""Plans over two simulated cards and the host, on torch in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dioe.runtime import Runtime
from dioe_torch.simulated import SimulatedDevices
from tests.backend.cards import CASES, Counted, check_plan
from tests.toys.backend import registry_of

pytestmark = pytest.mark.own_process


@pytest.fixture
def runtime(mlu: SimulatedDevices) -> Iterator[Runtime]:
    made = Runtime(registry_of(installed=["onnxruntime", "torch"]))
    yield made
    made.close()


@pytest.mark.parametrize("name", CASES)
def test_two_cards_and_the_host(mlu: SimulatedDevices, runtime: Runtime, name: str) -> None:
    def counted() -> Counted:
        return {
            purpose: {way: (moved.count, moved.bytes) for way, moved in ways.items()}
            for purpose, ways in mlu.copies().items()
        }

    check_plan(CASES[name](), runtime, "torch", counted)
