"""Devices, links, pools: what contradicts itself, fingerprints, and resources."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.hardware import DeviceSpec, Link, NumaNode, Pool, fingerprint, resources_for
from dioe.hardware.figures import BandwidthFigure, FigureKind
from dioe.types import ConfigError, InputError, Resources

CPU = DeviceSpec(
    "cpu",
    "cpu",
    name="A CPU",
    cores=(0, 1),
    capacity=2.0,
    logical_cores=2,
    memory_bytes=8_000_000_000,
    vector_extensions=("avx2", "fma"),
)


def gbps(value: float) -> BandwidthFigure:
    return BandwidthFigure(value=value * 1e9, source="a test", kind=FigureKind.DERIVED)


GPU = DeviceSpec("gpu:0", "gpu", name="A GPU")


def test_pool_looks_up() -> None:
    link = Link("cpu", "gpu:0", gbps(16.0))
    pool = Pool((CPU, GPU), (link,))
    assert pool.device("gpu:0") is GPU
    assert pool.link("cpu", "gpu:0") is link
    assert pool.link("gpu:0", "cpu") is None
    with pytest.raises(InputError, match="its devices are: cpu, gpu:0"):
        pool.device("npu:0")
    assert pickle.loads(pickle.dumps(pool)) == pool


@pytest.mark.parametrize(
    ("devices", "links", "problem"),
    [
        ((), (), "at least one device"),
        ((CPU, CPU), (), "second device has the id 'cpu'"),
        ((replace(CPU, kind="gpu"),), (), "no device of kind 'gpu'"),
        ((CPU, replace(GPU, shares="npu:0")), (), "'npu:0' is no other device"),
        ((replace(CPU, shares="cpu"),), (), "'cpu' is no other device"),
        ((CPU,), (Link("cpu", "gpu:0", gbps(1.0)),), "'gpu:0' is no device of the pool"),
        ((CPU,), (Link("cpu", "cpu", gbps(1.0)),), "from one device to another"),
        (
            (CPU, GPU),
            (Link("cpu", "gpu:0", gbps(1.0)), Link("cpu", "gpu:0", gbps(2.0))),
            "second link",
        ),
    ],
)
def test_contradictions(
    devices: tuple[DeviceSpec, ...], links: tuple[Link, ...], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        Pool(devices, links)
    assert caught.value.place
    assert caught.value.fix


def test_fingerprint_is_fixed() -> None:
    """A changed value here means that every kept measurement is thrown away: do it knowingly."""
    assert fingerprint(Pool((CPU,))) == "c59d01d03299366d"


@pytest.mark.parametrize(
    "same",
    [
        replace(CPU, memory_bytes=8_100_000_000),  # another kernel reserves other amounts
        replace(CPU, vector_extensions=("fma", "avx2")),
        replace(CPU, provenance="elsewhere"),
        replace(CPU, cores=(4, 5)),
        replace(CPU, numa_nodes=(NumaNode(0, (0, 1)),)),
    ],
)
def test_fingerprint_ignores(same: DeviceSpec) -> None:
    assert fingerprint(Pool((same,))) == fingerprint(Pool((CPU,)))


@pytest.mark.parametrize(
    "other",
    [
        replace(CPU, name="Another CPU"),
        replace(CPU, capacity=1.5),
        replace(CPU, memory_bytes=32_000_000_000),
        replace(CPU, memory_bytes=None),
        replace(CPU, vector_extensions=("avx2",)),
        replace(CPU, architecture="aarch64"),
    ],
)
def test_fingerprint_tells_apart(other: DeviceSpec) -> None:
    assert fingerprint(Pool((other,))) != fingerprint(Pool((CPU,)))


def test_fingerprint_ignores_the_order_of_devices() -> None:
    assert fingerprint(Pool((CPU, GPU))) == fingerprint(Pool((GPU, CPU)))
    assert fingerprint(Pool((CPU, GPU))) != fingerprint(Pool((CPU,)))


@pytest.mark.parametrize(
    ("capacity", "logical", "physical", "threads"),
    [
        (8.0, 8, 4, None),  # no limit: the backend's own default
        (2.5, 8, 4, 2),
        (0.5, 8, 4, 1),
        (6.0, 8, 4, 4),  # two threads on one physical core gain nothing
        (6.0, 8, None, 6),
        (None, 8, 4, None),
        (2.0, None, None, None),
    ],
)
def test_resources(
    capacity: float | None, logical: int | None, physical: int | None, threads: int | None
) -> None:
    device = replace(CPU, capacity=capacity, logical_cores=logical, physical_cores=physical)
    assert resources_for(device) == Resources(threads=threads)


@given(st.floats(0.01, 256), st.integers(1, 256))
def test_threads_never_exceed_capacity(capacity: float, logical: int) -> None:
    device = replace(CPU, capacity=capacity, logical_cores=logical)
    threads = resources_for(device).threads
    if threads is None:
        assert capacity >= logical
    else:
        assert 1 <= threads <= max(1.0, capacity)
