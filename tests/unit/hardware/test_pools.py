"""Pool files: exact round trips, exact places of errors, whole writes."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.hardware import (
    Cache,
    DeviceSpec,
    Link,
    NumaNode,
    Pool,
    host_pool,
    load_pool,
    pool_from,
    resources_for,
    save_pool,
)
from dioe.hardware.descriptor import Figures
from dioe.hardware.figures import Arithmetic, BandwidthFigure, FigureKind, Peak, TimeFigure
from dioe.hardware.limits import Limits
from dioe.hardware.spec import Bus
from dioe.types import ConfigError, InputError, KnownAs, Precision

T = TypeVar("T")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(1, 10**12)
indices = st.lists(st.integers(0, 4096), max_size=5).map(tuple)
positive = st.floats(1e-300, 1e300, exclude_min=True)
known = st.sampled_from(KnownAs)
amounts = st.floats(1e-15, 1e30)
sources = {"source": texts.filter(bool), "kind": st.sampled_from(FigureKind), "note": texts}
bandwidths = st.builds(BandwidthFigure, value=amounts, **sources)


def maybe(values: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.none() | values


forbidden = st.frozensets(st.sampled_from(Precision))
latencies = maybe(st.builds(TimeFigure, value=amounts, **sources))


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    kinds = draw(st.lists(st.sampled_from(["cpu", "gpu", "npu", "mlu"]), min_size=1, max_size=4))
    ids = [f"{kind}:{i}" for i, kind in enumerate(kinds)]
    devices = [
        draw(
            st.builds(
                DeviceSpec,
                id=st.just(device_id),
                kind=st.just(kind),
                name=texts,
                known_as=known,
                provenance=texts,
                architecture=texts,
                cores=indices,
                capacity=maybe(positive),
                logical_cores=maybe(counts),
                physical_cores=maybe(counts),
                memory_bytes=maybe(st.integers(0, 2**64)),
                memory_total_bytes=maybe(st.integers(0, 2**64)),
                caches=st.lists(
                    st.builds(Cache, counts, texts, st.integers(0, 2**40), counts, counts),
                    max_size=3,
                ).map(tuple),
                vector_extensions=st.lists(texts, max_size=3).map(tuple),
                numa_nodes=st.lists(
                    st.builds(NumaNode, st.integers(0, 64), indices), max_size=2
                ).map(tuple),
                is_virtual=maybe(st.booleans()),
                shares=st.sampled_from([None, *(x for x in ids if x != device_id)]),
            )
        )
        for device_id, kind in zip(ids, kinds, strict=True)
    ]
    ways = [(a, b) for a in ids for b in ids if a != b and draw(st.booleans())]
    buses = [Bus(name, draw(bandwidths)) for name in draw(st.sampled_from([[], ["pcie"]]))]
    links = [
        Link(
            a,
            b,
            draw(bandwidths),
            draw(latencies),
            draw(st.sampled_from(["", *(x.id for x in buses)])),
            draw(texts),
        )
        for a, b in ways
    ]
    limits = Limits(
        draw(st.dictionaries(st.sampled_from(ids), st.integers(1, 2**50))),
        draw(
            st.dictionaries(st.sampled_from([*ids, "*"]), st.frozensets(st.sampled_from(Precision)))
        ),
        draw(maybe(st.integers(1, 9))),
        draw(maybe(amounts)),
    )
    return Pool(tuple(devices), tuple(links), buses=tuple(buses), limits=limits, name=draw(texts))


@settings(max_examples=50, deadline=None)
@given(pools())
def test_round_trip(pool: Pool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.yaml"
        save_pool(pool, path)
        assert load_pool(path) == pool
        first = path.read_bytes()
        save_pool(load_pool(path), path)
        assert path.read_bytes() == first


def test_the_host_round_trips(tmp_path: Path) -> None:
    pool = host_pool()
    save_pool(pool, tmp_path / "host.yaml")
    assert load_pool(str(tmp_path / "host.yaml")) == pool


def test_a_link_stays_and_what_has_no_value_is_left_out(tmp_path: Path) -> None:
    peak = Peak(
        source="its datasheet", kind=FigureKind.VENDOR, precision=Arithmetic.FP32, value=1e12
    )
    link = tmp_path / "link.yaml"
    link.symlink_to("file.yaml")
    save_pool(Pool((DeviceSpec("gpu:0", figures=Figures(peaks=(peak,))),)), link)
    assert link.is_symlink()
    text = (tmp_path / "file.yaml").read_text()
    assert "1 TFLOPS" in text
    assert "null" not in text


def test_the_example() -> None:
    path = Path(__file__).parents[3] / "hwconfigs/pools/example-host.yaml"
    pool = load_pool(path)
    assert pool.devices[0].known_as is KnownAs.MODELLED
    assert pool.devices[0].provenance.startswith("example")


def test_the_documented_pool() -> None:
    docs = Path(__file__).parents[3] / "docs"
    text = (docs / "examples/pool.yaml").read_text(encoding="utf-8")
    assert f"```yaml\n{text}```" in (docs / "hardware.md").read_text(encoding="utf-8")
    pool = load_pool(docs / "examples/pool.yaml")
    assert resources_for(pool.device("cpu")).threads == 2
    assert pool.device("gpu:0").kind == "gpu"
    assert pool.pins == (("type:Conv", "gpu:0"), ("head_*", "cpu/openvino"))


def test_every_documented_key_is_one() -> None:
    docs = Path(__file__).parents[3] / "docs"
    section = (docs / "hardware.md").read_text(encoding="utf-8").partition("## The pool")[2]
    rows = section.partition("\n## ")[0].split("\n|")[1:]
    devices = {key for row in rows if row.startswith(" … ") for key in named(row)}
    assert devices | {"id", "kind"} == {field.name for field in fields(DeviceSpec)}
    assert {row.split("`")[1] for row in rows if row.startswith(" `")} == {
        "devices", "links", "buses", "boundaries", "include", "limits", "pins", "name",
    }  # fmt: skip


def named(row: str) -> list[str]:
    return re.findall(r"`(\w+)`", row.partition(" | ")[0])


def test_pool_from(tmp_path: Path) -> None:
    pool = host_pool()
    save_pool(pool, tmp_path / "p.yaml")
    assert pool_from(None) == pool
    assert pool_from(pool) is pool
    assert pool_from(tmp_path / "p.yaml") == pool
    assert pool_from(os.fspath(tmp_path / "p.yaml")) == pool
    with pytest.raises(InputError, match="hardware is a int"):
        pool_from(3)  # type: ignore[arg-type]


DEVICE = "devices:\n- id: cpu\n  kind: cpu\n"
LINKED = DEVICE + "- {id: 'gpu:0', kind: gpu}\nlinks:\n- "

BROKEN = {
    "another file": (
        "jobs:\n  test: {image: x}\n",
        ":1:1: unknown key 'jobs'",
        "known keys",
    ),
    "misspelt list": ("devics: []\n", ":1:1: unknown key 'devics'", "did you mean 'devices'"),
    "misspelt key": (DEVICE + "  capasity: 2.0\n", ":4:3: unknown key", "mean 'capacity'"),
    "misspelt cache key": (
        DEVICE + "  caches:\n  - {level: 1, kind: data, size: 3}\n",
        ":5:28: unknown key 'size' .and 1 more.",
        "size_bytes",
    ),
    "misspelt link key": (LINKED + "{source: cpu, target: x}\n", "unknown key 'target'", "known"),
    "library": (DEVICE + "  library: ./evil.so\n", ":4:3: unknown key 'library'", "known keys"),
    "no devices": ("links: []\n", ":1:1: a pool has at least one device", "list one"),
    "empty devices": ("devices: []\n", ":1:1: a pool has at least one device", "list one"),
    "missing key": ("devices:\n- kind: cpu\n", ":2:3: the key 'id' is missing", "add 'id"),
    "null devices": ("devices:\n", ":1:1: devices is empty", "leave 'devices' out"),
    "version": ("version: 2\nfoo: 1\n", ":1:1: version is 2, which should be 1", "correct"),
    "format": ("format: x\ndevices: []\n", "format is 'x', which should be 'dioe-pool'", "correct"),
    "a list of formats": ("format: [x]\ndevices: []\n", "format is .'x'.", "correct"),
    "bad id": (DEVICE.replace("id: cpu", "id: CPU 0"), r":2:3: devices\[0\].id is 'CPU 0'", ""),
    "text for number": (DEVICE + "  capacity: '4'\n", "capacity is '4'.*valid number", ""),
    "bool for number": (DEVICE + "  capacity: yes\n", "capacity is True.*valid number", ""),
    "fraction of a byte": (DEVICE + "  memory_bytes: 1.5\n", "memory_bytes is 1.5", ""),
    "number for text": (DEVICE + "  name: 3\n", "name is 3, which should be a valid string", ""),
    "NaN": (DEVICE + "  capacity: .nan\n", ":4:3: .*capacity is nan.*finite", ""),
    "infinite": (DEVICE + "  capacity: .inf\n", "capacity is inf.*finite", ""),
    "zero": (DEVICE + "  capacity: 0\n", "capacity is 0, which should be greater than 0", ""),
    "negative core": (DEVICE + "  cores: [0, -1]\n", r":4:14: devices\[0\].cores\[1\] is -1", ""),
    "known as": (DEVICE + "  known_as: real\n", "known_as is 'real', which should be 'har", ""),
    "mapping for list": (DEVICE + "  cores: {a: 1}\n", "cores is {'a': 1}", ""),
    "long value": (DEVICE + f"  cores: {'x' * 500}\n", r"is 'x{50,60}\.\.\.", ""),
    "twice": (DEVICE + "- {id: cpu, kind: cpu}\n", ":4:4: a second device", ""),
    "kind": (DEVICE.replace("kind: cpu", "kind: gpu"), ":3:3: 'cpu' is no device of kind", ""),
    "dangling link": (
        LINKED
        + "{source: cpu, destination: 'npu:0', bandwidth: "
        + "{value: 1 GB/s, source: a, kind: derived}}\n",
        ":6:17: 'npu:0' is no device of the pool",
        "",
    ),
    "half a surrogate pair": (DEVICE + '  name: "\\ud800"\n', "surrogate", ""),
    "tag": ("devices: !!python/tuple []\n", ":1:10: the tag", "remove the tag"),
}


@pytest.mark.parametrize(("text", "message", "fix"), BROKEN.values(), ids=BROKEN.keys())
def test_broken(tmp_path: Path, text: str, message: str, fix: str) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_pool(path)
    assert caught.value.place.startswith(str(path))
    assert fix in caught.value.fix
    assert caught.value.fix


def test_numbers_may_be_whole_where_fractions_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(DEVICE + "  capacity: 4\n  name: 2024-01-01\n")
    device = load_pool(tmp_path / "p.yaml").devices[0]
    assert (device.capacity, device.name) == (4.0, "2024-01-01")


def test_saving_replaces_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pool.yaml"
    path.write_text("the old one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match="No space left"):
            save_pool(host_pool(), path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]
    save_pool(host_pool(), path)
    assert load_pool(path) == host_pool()


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be written") as caught:
        save_pool(host_pool(), tmp_path / "missing" / "pool.yaml")
    assert caught.value.exit_code == 19


@pytest.mark.parametrize(
    ("name", "cause", "fix"),
    [
        ("server-a10", "no pool of the catalogue: 'server-a10'", "did you mean 'server-a100'?"),
        ("zzz", "no such file, and no pool", "known pools: captioning"),
        ("rtx-4090", "is a device of the catalogue, not a pool", "device: rtx-4090"),
        ("", "no such file, and no pool of the catalogue: ''", "known pools"),
        ("./none", "none: no such file", "check the path"),
        ("none.yaml", "none.yaml: no such file", "check the path"),
        ("n" * 300, "the file can't be read", "check the path"),
    ],
)
def test_a_name_that_is_no_pool(name: str, cause: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pool_from(name)
    assert cause in str(caught.value)
    assert fix in caught.value.fix


def test_a_file_of_the_other_format_says_what_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("format: dioe-device\nversion: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_pool(tmp_path / "card.yaml")
    assert caught.value.fix.startswith("it is a descriptor: a pool names it")
    (tmp_path / "pool.yaml").write_text(
        "format: dioe-pool\nversion: 1\ndevices: [{id: 'gpu:0', device: ./pool.yaml}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_pool(tmp_path / "pool.yaml")
    assert caught.value.fix.startswith("it is a pool: 'include' takes it over")


CARD = """\
format: dioe-device
version: 1
id: card
name: A card
kind: gpu
memory:
  size: {value: 24 GiB, source: a sheet, kind: vendor}
"""


def test_what_an_included_file_names_is_beside_that_file(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "card.yaml").write_text(CARD)
    (parts / "base.yaml").write_text("devices:\n- {id: 'gpu:0', device: ./card.yaml}\n")
    (tmp_path / "pool.yaml").write_text(
        "include: [parts/base.yaml]\ndevices:\n- {id: 'gpu:0', name: Mine}\n"
    )
    device = load_pool(tmp_path / "pool.yaml").device("gpu:0")
    assert (device.name, device.memory_bytes) == ("Mine", 24 * 2**30)


@pytest.mark.parametrize(
    ("changed", "memory"),
    [
        ("figures: {memory: {size: {value: 20 GiB, source: a test, kind: derived}}}", 20 * 2**30),
        ("memory_bytes: 1000", 1000),
        ("name: Mine", 24 * 2**30),
    ],
)
def test_an_including_file_changes_the_memory(tmp_path: Path, changed: str, memory: int) -> None:
    (tmp_path / "card.yaml").write_text(CARD)
    (tmp_path / "base.yaml").write_text("devices:\n- {id: 'gpu:0', device: ./card.yaml}\n")
    (tmp_path / "pool.yaml").write_text(
        f"include: [./base.yaml]\ndevices:\n- {{id: 'gpu:0', {changed}}}\n"
    )
    assert load_pool(tmp_path / "pool.yaml").device("gpu:0").memory_bytes == memory
