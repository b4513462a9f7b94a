"""Names of targets with their threads."""

from __future__ import annotations

import pytest

from dioe.planning import on_threads
from dioe.types import Target


@pytest.mark.parametrize(
    ("threads", "name"),
    [
        (1, "cpu/a/fp32 on 1 thread"),
        (2, "cpu/a/fp32 on 2 threads"),
        (None, "cpu/a/fp32 on default threads"),
    ],
)
def test_a_target_on_threads(threads: int | None, name: str) -> None:
    assert on_threads("cpu/a/fp32", threads) == name
    assert on_threads(Target("cpu", "a"), threads) == name
