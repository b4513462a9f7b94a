"""Plans over two cards and the host, with ``cambricon.torch`` behind a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dioe.runtime import Runtime
from dioe.types import KnownAs
from dioe_cambricon.torch_backend import TorchMluBackend
from tests.backend.cards import CASES, Counted, check_plan
from tests.toys.backend import registry_of


@pytest.fixture
def runtime(torch_mlu: TorchMluBackend) -> Iterator[Runtime]:
    made = Runtime(registry_of(torch_mlu, installed=["onnxruntime"]))
    yield made
    made.close()


@pytest.mark.parametrize("name", CASES)
def test_two_cards_and_the_host(
    torch_mlu: TorchMluBackend, runtime: Runtime, copies: Callable[[], Counted], name: str
) -> None:
    assert {device.known_as for device in torch_mlu.probe()} == {KnownAs.CONTRACT}
    check_plan(CASES[name](), runtime, "cambricon.torch", copies)
