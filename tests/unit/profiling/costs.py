"""Costs to keep, and what the tests of the cost history share."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dioe.profiling import CostKey, CostRecord, History, history
from dioe.types import Resources

KEY = CostKey(
    kind="block",
    subject="0123abcd",
    shapes={"x": (1, 3, 224, 224), "mask": (1, 224)},
    target="cpu/toy/fp32",
    resources=Resources(cores=(0, 1), threads=2, spin=False),
    options={"fusion": True, "tile": [8, 8]},
    versions={"toy": "1.0"},
    hardware="cafe",
)
OTHERS: dict[str, Any] = {
    "kind": "target",
    "subject": "4567abcd",
    "shapes": {"x": (1, 3, 224, 225), "mask": (1, 224)},
    "target": "cpu/toy/bf16",
    "resources": Resources(cores=(0, 1), threads=1, spin=False),
    "options": {"fusion": False, "tile": [8, 8]},
    "versions": {"toy": "1.1"},
    "hardware": "beef",
}


def key(subject: object = "0123abcd", **changes: Any) -> CostKey:
    return dataclasses.replace(KEY, subject=str(subject), **changes)


def cost(p50_ms: float = 1.5, **changes: Any) -> CostRecord:
    return CostRecord(
        **{"p50_ms": p50_ms, "p90_ms": 2.0, "p99_ms": 2.5, "spread_ms": 0.1, "runs": 20} | changes
    )


def p50(found: CostRecord | None) -> float | None:
    assert found is not None
    return found.p50_ms


def forget(folder: Path) -> History:
    """A history as a new process would see it."""
    history._memories.pop(folder.absolute() / history.FILE_NAME, None)
    return History(folder)


def file_of(folder: Path) -> Path:
    return folder / history.FILE_NAME


def put_many_times(folder: Path, process: int, count: int) -> None:
    """Put as many costs under keys of this process, and under one that all share."""
    kept = History(folder)
    for i in range(count):
        kept.put(key(f"{process}-{i}"), cost(float(i)))
        if i % 10 == 0:
            kept.put(key("shared"), cost(float(i)))
            assert kept.get(key("shared")) is not None
    end = time.monotonic() + 30  # on a slow disk the others may have held it for too long
    while kept.flush():
        assert time.monotonic() < end
        time.sleep(0.2)


def in_processes(target: Callable[..., None], calls: list[tuple[Any, ...]]) -> None:
    """Call a function in a process for each of the calls, all at once."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=call) for call in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(calls)
