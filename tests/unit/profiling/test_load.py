"""How much of the machine others use: exact on made-up readings, within bounds on real ones."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from dioe.profiling import CpuLoad, others_share
from dioe.profiling.load import NOISY_SHARE


def test_the_share_is_of_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    before = CpuLoad(machine_s=100.0, process_s=20.0, wall_s=50.0)
    # 2 s pass on 4 cores; 3 s of them are used, 2 of these by this process
    after = CpuLoad(machine_s=103.0, process_s=22.0, wall_s=52.0)
    assert others_share(before, after) == pytest.approx(1 / 8)
    # the two counters are read one after the other, and their ticks differ
    assert others_share(before, CpuLoad(101.9, 22.0, 52.0)) == 0.0


def test_too_short_to_tell() -> None:
    before = CpuLoad(0.0, 0.0, 0.0)
    assert others_share(before, CpuLoad(1.0, 0.0, 0.049)) == 0.0
    assert others_share(before, CpuLoad(1.0, 0.0, 0.051)) > 0.0


def burn(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@contextlib.contextmanager
def burners(count: int) -> Iterator[None]:
    """Other processes that keep a core busy each, from the start of the block to its end."""
    code = "print('on', flush=True)\nwhile True: pass"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(count)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()


def test_another_process_is_seen() -> None:
    needed = math.ceil(3 * NOISY_SHARE * (psutil.cpu_count() or 1))
    if needed > len(os.sched_getaffinity(0)):
        pytest.skip("too few of the machine's cores are ours to be noticed on it")
    with burners(needed):
        before = CpuLoad.now()
        time.sleep(0.4)
        assert others_share(before, CpuLoad.now()) > NOISY_SHARE


def test_own_work_does_not_count() -> None:
    before = CpuLoad.now()
    burn(0.4)
    after = CpuLoad.now()
    own_s, wall_s = after.process_s - before.process_s, after.wall_s - before.wall_s
    cores = psutil.cpu_count() or 1
    assert wall_s >= 0.4
    assert 0.0 < own_s <= wall_s * cores + 0.05
    # whatever else runs, at most what is left of the cores after our share is another's
    assert others_share(before, after) <= 1 - own_s / (wall_s * cores) + 0.1


def test_readings_only_grow() -> None:
    readings = [CpuLoad.now()]
    for _ in range(3):
        burn(0.02)
        readings.append(CpuLoad.now())
    for before, after in itertools.pairwise(readings):
        assert after.wall_s > before.wall_s
        assert after.process_s >= before.process_s
        assert after.machine_s >= before.machine_s
        assert others_share(before, after) >= 0.0
