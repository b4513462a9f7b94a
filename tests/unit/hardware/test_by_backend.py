"""What was measured through one backend, and boundaries between backends, in files and in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dioe.hardware import Pool, load_pool, save_pool
from dioe.hardware.descriptor import BackendFigures, Figures, WorkingSetBandwidth
from dioe.hardware.figures import BandwidthFigure, FigureKind, TimeFigure
from dioe.hardware.reached import dispatch_s, launch_s, memory_rate
from dioe.hardware.spec import BoundaryCost, DeviceSpec
from dioe.types import ConfigError

MEASURED: dict[str, Any] = {"source": "a test", "kind": FigureKind.MEASURED}
VENDOR: dict[str, Any] = {"source": "a page", "kind": FigureKind.VENDOR}

ONE = BackendFigures(
    backend="one",
    launch_overhead=TimeFigure(value=1e-6, **MEASURED),
    bandwidth=BandwidthFigure(value=20e9, **MEASURED),
    by_working_set=(WorkingSetBandwidth(value=90e9, working_set=1 << 20, **MEASURED),),
)
TWO = BackendFigures(
    backend="two",
    dispatch_overhead=TimeFigure(value=9e-6, **MEASURED),
    bandwidth=BandwidthFigure(value=30e9, **MEASURED),
)
CHIP = Figures.model_validate(
    {
        "launch_overhead": TimeFigure(value=5e-6, **VENDOR),
        "memory": {"bandwidth": BandwidthFigure(value=100e9, **VENDOR)},
    }
)
CPU = DeviceSpec("cpu", figures=Figures(by_backend=(ONE, TWO)).over(CHIP))
HANDOVER = BoundaryCost(
    "cpu/one",
    "cpu/two",
    TimeFigure(value=1e-6, **MEASURED),
    BandwidthFigure(value=1e9, **MEASURED),
)
POOL = Pool((CPU,), boundaries=(HANDOVER,))


@pytest.mark.parametrize(
    ("backend", "working_set", "gbps"),
    [("one", None, 20), ("one", 1 << 20, 90), ("one", (1 << 20) + 1, 20), ("two", 1 << 20, 30)],
)
def test_the_bandwidth_of_a_backend(backend: str, working_set: int | None, gbps: float) -> None:
    found = memory_rate(CPU, working_set, backend=backend)
    assert found is not None
    assert found.measured
    assert found.per_s == gbps * 1e9


def test_another_backend_gets_the_best_that_was_measured_then_the_chip() -> None:
    found = memory_rate(CPU, backend="three")
    assert found is not None
    assert found.per_s == 30e9
    chip = memory_rate(replace(CPU, figures=CHIP), backend="three")
    assert chip is not None
    assert not chip.measured
    assert chip.per_s == 80e9
    assert memory_rate(replace(CPU, figures=Figures())) is None


def test_a_share_of_a_caches_bandwidth_is_reached_too_unless_it_was_measured() -> None:
    cached = WorkingSetBandwidth(value=1e12, working_set=1 << 20, **VENDOR)
    memory = CHIP.memory.model_copy(update={"by_working_set": (cached,)})
    chip = replace(CPU, figures=CHIP.model_copy(update={"memory": memory}))
    small, large = memory_rate(chip, 1 << 20), memory_rate(chip, (1 << 20) + 1)
    assert small is not None
    assert large is not None
    assert (small.per_s, large.per_s) == (0.8e12, 80e9)
    assert small.basis == "vendor figure × 0.8"


def test_what_stands_in_for_hardware_is_told() -> None:
    noted = BandwidthFigure(value=20e9, note="simulated, noisy", **MEASURED)
    part = BackendFigures(backend="one", bandwidth=noted)
    found = memory_rate(replace(CPU, figures=Figures(by_backend=(part,))), backend="one")
    plain = memory_rate(CPU, backend="one")
    assert found is not None
    assert plain is not None
    assert (found.basis, plain.basis) == ("measured (simulated, noisy)", "measured")


def test_overheads() -> None:
    assert launch_s(CPU, "one") == 1e-6
    assert launch_s(CPU, "two") == launch_s(CPU) == 5e-6
    assert dispatch_s(CPU, "two") == 9e-6
    assert dispatch_s(CPU, "one") is None


def test_of_one_backend_figures_win_one_by_one() -> None:
    older = BackendFigures(
        backend="one",
        launch_overhead=TimeFigure(value=7e-6, **VENDOR),
        dispatch_overhead=TimeFigure(value=8e-6, **VENDOR),
    )
    merged = Figures(by_backend=(ONE,)).over(Figures(by_backend=(older, TWO)))
    assert [each.backend for each in merged.by_backend] == ["one", "two"]
    one = merged.of_backend("one")
    assert one is not None
    assert one.launch_overhead == ONE.launch_overhead
    assert one.dispatch_overhead == older.dispatch_overhead
    assert merged.of_backend("three") is None


def test_one_entry_for_a_backend() -> None:
    with pytest.raises(ValueError, match=r"second one .*'one'"):
        Figures(by_backend=(ONE, ONE))


def test_boundaries_by_the_beginnings_of_targets() -> None:
    assert POOL.boundary("cpu/one/fp32", "cpu/two/bf16") == HANDOVER
    assert POOL.boundary("cpu/two/fp32", "cpu/one/fp32") is None
    assert POOL.boundary("cpu/one.more/fp32", "cpu/two/fp32") is None
    closer = replace(HANDOVER, destination="cpu/two/bf16")
    pool = replace(POOL, boundaries=(HANDOVER, closer))
    assert pool.boundary("cpu/one/fp32", "cpu/two/bf16") == closer
    assert HANDOVER.cost_ms(10**6) == pytest.approx(1.001)
    assert replace(HANDOVER, bandwidth=None).cost_ms(10**6) == pytest.approx(0.001)


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "pool.yaml"
    save_pool(POOL, path)
    assert load_pool(path) == POOL


BOUNDARY = "{source: cpu/one, destination: %s, fixed: {value: 1 us, source: s, kind: measured}}"


@pytest.mark.parametrize(
    ("rows", "place", "says"),
    [
        (["gpu:0/two"], "4:26", "'gpu:0/two' is on no device"),
        (["cpu/two", "cpu/two"], "5:4", "second boundary from 'cpu/one' to 'cpu/two'"),
        (["nowhere at all"], "4:26", "nowhere at all"),
    ],
)
def test_boundaries_that_cant_be(tmp_path: Path, rows: list[str], place: str, says: str) -> None:
    path = tmp_path / "pool.yaml"
    lines = ["devices:", "- id: cpu", "boundaries:", *("- " + BOUNDARY % row for row in rows)]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=says) as caught:
        load_pool(path)
    assert caught.value.place.startswith(f"{path}:{place.partition(':')[0]}:")
