"""float32 in full on NVIDIA: settings of the process that are lent, and given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dioe_torch.numerics import _knobs, full_fp32

CUDA = torch.device("cuda")
OWNERS: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)


def settings() -> list[Any]:
    found: list[Any] = [knob.fp32_precision for knob in _knobs()]
    for owner in OWNERS:
        try:
            found.append(owner.allow_tf32)
        except RuntimeError:
            found.append("set by the newer way")
    return found


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = settings()
    yield
    for owner, allowed in zip(OWNERS, before[-2:], strict=True):
        owner.allow_tf32 = allowed
    for knob, found in zip(_knobs(), before, strict=False):
        knob.fp32_precision = found
    assert settings() == before


def by_default() -> None:
    pass


def by_the_older_way() -> None:
    OWNERS[0].allow_tf32 = True


def by_the_newer_way() -> None:
    if not _knobs():
        pytest.skip("this torch has the older way only")
    for knob in _knobs():
        knob.fp32_precision = "tf32"


def already_in_full() -> None:
    for owner in OWNERS:
        owner.allow_tf32 = False


@pytest.mark.parametrize(
    "choose", [by_default, by_the_older_way, by_the_newer_way, already_in_full]
)
def test_what_the_user_chose_comes_back(choose: Any) -> None:
    choose()
    before = settings()
    with full_fp32(CUDA):
        assert "tf32" not in settings()
        assert settings()[-2:] == [False, False]  # both ways agree, else torch refuses to compute
        with full_fp32(CUDA):
            assert settings()[-2:] == [False, False]
        assert settings()[-2:] == [False, False]
    assert settings() == before


def test_the_last_thread_gives_back() -> None:
    before, entered, leave = settings(), threading.Event(), threading.Event()

    def other() -> None:
        with full_fp32(CUDA):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with full_fp32(CUDA):
        thread.start()
        assert entered.wait(60)
    assert settings()[-2:] == [False, False]
    leave.set()
    thread.join(60)
    assert settings() == before


def test_other_devices_have_no_tf32() -> None:
    before = settings()
    with full_fp32(torch.device("cpu")):
        assert settings() == before
