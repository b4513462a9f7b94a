"""What comes with DIOE: the very numbers of public tables, sources, pools, and who is found."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import catalogue_page
from dioe.hardware import (
    DeviceSpec,
    Pool,
    catalogue,
    discover_host,
    fingerprint,
    load_pool,
    save_pool,
    with_devices,
)
from dioe.hardware.catalogue import POOLS, descriptor, matching
from dioe.hardware.descriptor import DeviceDescriptor, Figures, MemorySection
from dioe.hardware.figures import Arithmetic, BandwidthFigure, FigureKind, Peak, TimeFigure
from dioe.hardware.reached import compute_rate, known_precisions, memory_rate
from dioe.hardware.validate import State, validate
from dioe.registry import Placement
from dioe.types import ConfigError, DeviceInfo, KnownAs, Precision

ROOT = Path(__file__).parents[3]
DEVICE_FILES = sorted((ROOT / "hwconfigs/devices").glob("*.yaml"))
POOL_FILES = sorted((ROOT / "hwconfigs/pools").glob("*.yaml"))

# Written by hand from public tables, dense: fp32, fp16 or bf16, int8 (TFLOPS, TOPS), GiB, GB/s, W.
# None is what no source was found for.
TABLE = {
    "a100-sxm-80g": (19.5, 312, 624, 80, 2039, 400),
    "h100-sxm": (66.9, 989, 1979, 80, 3350, 700),
    "t4": (8.1, 65, 130, 16, 320, 70),
    "l4": (30.3, 121, 242, 24, 300, 72),
    "rtx-4090": (82.6, 165, 661, 24, 1008, 450),
    "meteor-lake-npu": (None, 5.5, 11, None, 89.6, None),
    "meteor-lake-gpu": (4.5, 9, 18, None, 89.6, None),
    "meteor-lake-cpu": (1.25, None, 5, None, 89.6, 28),
    "lunar-lake-npu": (None, 24, 48, None, 136.5, None),
    "lunar-lake-gpu": (None, 33.5, 67, None, 136.5, None),
    "xeon-8480-plus": (7.2, 115, 229, None, 307, 350),
    "epyc-9654": (7.4, 14.7, 29.5, None, 461, 360),
    "mlu370-s4": (None, None, None, None, None, None),
    "mlu370-x4": (24, 96, 256, 24, 307.2, 150),
    "mlu370-x8": (None, 96, 256, 48, 614.4, 250),
    "mlu370-x8-chip": (None, 48, 128, 24, 307.2, 125),
    "mi300x": (163.4, 1307, None, 192, 5300, 750),
    "atlas-300i-duo-310p": (None, 140 / 2, 280 / 2, None, None, 150 / 2),
    "ascend-910b3": (None, 313, None, 64, 1600, None),
}
SPARSE = {
    "a100-sxm-80g": {"fp16": 624, "int8": 1248},
    "h100-sxm": {"fp16": 1979, "int8": 3958},
    "l4": {"fp16": 242, "int8": 485},
    "rtx-4090": {"fp16": 330, "int8": 1321},
}


def peaks(device: DeviceDescriptor, *names: str, mode: str = "") -> list[Peak]:
    wanted = {Arithmetic(name) for name in names}
    return [peak for peak in device.peaks if peak.precision in wanted and peak.mode == mode]


@pytest.mark.parametrize("name", TABLE)
def test_the_very_numbers(name: str) -> None:
    device = descriptor(name)
    fp32, half, int8, gib, gb_s, watts = TABLE[name]
    for wanted, names in ((fp32, ["fp32"]), (half, ["fp16", "bf16"]), (int8, ["int8"])):
        found = peaks(device, *names)
        assert [peak.value / 1e12 for peak in found] == pytest.approx(
            [wanted] * len(found), rel=0.005
        )
        assert bool(found) == (wanted is not None)
    size, bandwidth, tdp = device.memory.size, device.memory.bandwidth, device.power.tdp
    assert (None if size is None else size.value / 2**30) == gib
    assert (None if bandwidth is None else bandwidth.value / 1e9) == (
        None if gb_s is None else pytest.approx(gb_s, rel=0.002)
    )
    assert (None if tdp is None else tdp.value) == watts


@pytest.mark.parametrize("name", SPARSE)
def test_figures_with_sparsity_stand_beside_the_dense_ones(name: str) -> None:
    for precision, wanted in SPARSE[name].items():
        (peak,) = peaks(descriptor(name), precision)
        assert peak.sparse is not None
        assert peak.sparse / 1e12 == pytest.approx(wanted, rel=0.005)
        assert peak.sparse == pytest.approx(2 * peak.value, rel=0.005)


@pytest.mark.parametrize(
    ("mode", "gpu", "dlas"), [("MAXN", 85, 52), ("50W", 54, 46), ("30W", 20, 45), ("15W", 7, 20)]
)
def test_an_orin_by_power_mode(mode: str, gpu: int, dlas: int) -> None:
    """Tables cut what is half of an odd number: 171 / 2 is 85 there."""
    (of_gpu,) = peaks(descriptor("agx-orin-64g-gpu"), "int8", mode=mode)
    (of_dla,) = peaks(descriptor("agx-orin-64g-dla"), "int8", mode=mode)
    assert (int(of_gpu.value / 1e12), int(2 * of_dla.value / 1e12)) == (gpu, dlas)
    for name in ("agx-orin-64g-gpu", "agx-orin-64g-dla", "agx-orin-64g-cpu"):
        assert mode in {m.id for m in descriptor(name).power.modes}


@pytest.mark.parametrize(
    ("name", "link", "gb_s"),
    [
        ("a100-sxm-80g", "NVLink 3", 300),
        ("a100-sxm-80g", "PCIe 4.0 x16", 31.5),
        ("h100-sxm", "NVLink 4", 900 / 2),
        ("h100-sxm", "PCIe 5.0 x16", 63),
        ("t4", "PCIe 3.0 x16", 15.75),
        ("mlu370-x8", "MLU-Link", 200 / 2),
    ],
)
def test_ways_out_of_a_device(name: str, link: str, gb_s: float) -> None:
    (found,) = (way for way in descriptor(name).interconnects if way.name == link)
    assert found.bandwidth is not None
    assert found.bandwidth.value == gb_s * 1e9


def test_what_a_card_reaches() -> None:
    """ResNet-50 on an MLU370-X4: 5134 images/s of 8.2 GFLOP, of 96 TFLOPS."""
    share = descriptor("mlu370-x4").achievable.compute
    assert share is not None
    assert share.value == pytest.approx(5134 * 8.2e9 / 96e12, abs=0.005)


def test_software_that_exposes_less_than_the_chip() -> None:
    for name in ("mlu370-s4", "mlu370-x4", "mlu370-x8", "mlu370-x8-chip"):
        device = descriptor(name)
        assert Arithmetic.BF16 in device.precisions.hardware
        assert device.precisions.software == (Arithmetic.FP32, Arithmetic.FP16, Arithmetic.INT8)
        assert device.backend is not None
        assert device.backend.model_dump(exclude_defaults=True) == {
            "type": "cambricon",
            "precision": "int8",
            "optimizer": {"kernel_fusion": True, "tiling_strategy": "auto"},
        }
    assert known_precisions(descriptor("mlu370-x8").figures) == (Precision.FP16, Precision.INT8)


@pytest.mark.parametrize("path", [*DEVICE_FILES, *POOL_FILES], ids=lambda path: path.stem)
def test_every_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=../schema.json\nformat: dioe-") or (
        text.startswith("# yaml-language-server: $schema=../schema.json\n# ")
    )
    assert max(map(len, text.splitlines())) <= 120
    report = validate(path)
    assert (report.state, report.findings) == (State.OK, ())


@pytest.mark.parametrize("path", DEVICE_FILES, ids=lambda path: path.stem)
def test_every_figure_has_a_source(path: Path) -> None:
    device = descriptor(path.stem)
    assert device.id == path.stem
    for place, figure in device.all_figures():
        assert len(figure.source) > 12, place
        assert figure.kind not in (FigureKind.UNVERIFIED, FigureKind.MEASURED), place
        if figure.kind is FigureKind.VENDOR:
            assert "NVIDIA/Deep-Learning-Accelerator-SW" in figure.source, place
        if figure.kind is FigureKind.DERIVED:
            assert re.search(r" x |half|quarter|twice|by clock", figure.source), place
    missing = not known_precisions(device.figures) or device.memory.size is None
    assert "Left out:" in device.notes or not (missing or device.power.tdp is None)
    assert device.precisions.hardware
    assert device.precisions.source


def test_backends_that_descriptors_name_are_built_in() -> None:
    built_in = {folder.name.removeprefix("dioe_") for folder in (ROOT / "backends").glob("dioe_*")}
    named = {found.backend.type for found in catalogue.descriptors() if found.backend is not None}
    assert named <= built_in
    assert {"cambricon", "cuda", "openvino"} <= named


@pytest.mark.parametrize("path", POOL_FILES, ids=lambda path: path.stem)
def test_every_pool_has_the_links_that_it_needs(path: Path) -> None:
    """From each memory to every other; devices that share one need none."""
    pool = load_pool(path)
    assert pool.name
    assert all(device.known_as is KnownAs.MODELLED for device in pool.devices)
    assert all(device.device and device.provenance for device in pool.devices) or (
        path.stem == "example-host"
    )
    for one in pool.devices:
        for other in pool.devices:
            apart = (one.shares or one.id) != (other.shares or other.id)
            assert (pool.link(one.id, other.id) is not None) == apart
    for link in pool.links:
        assert len(link.bandwidth.source) > 12
        assert link.bus in {"", *(bus.id for bus in pool.buses)}


def test_the_pools() -> None:
    assert set(catalogue.names(POOLS)) == {
        "captioning", "cpu-split", "example-host", "jetson-agx-orin", "laptop-meteor-lake",
        "mlu370-x8-host", "pcie4-host", "server-a100", "workstation-rtx4090",
    }  # fmt: skip
    card = load_pool(ROOT / "hwconfigs/pools/mlu370-x8-host.yaml")
    assert [d.memory_bytes for d in card.devices if d.kind == "mlu"] == [24 * 2**30] * 2
    halves = load_pool(ROOT / "hwconfigs/pools/cpu-split.yaml").devices
    assert not set(halves[0].cores) & set(halves[1].cores)
    assert [half.capacity for half in halves] == [len(half.cores) for half in halves]
    whole = replace(halves[0], capacity=None)
    for rate in (memory_rate, partial(compute_rate, precision=Precision.FP32)):
        some, all_cores = rate(halves[0]), rate(whole)
        assert some is not None
        assert all_cores is not None
        assert some.per_s == pytest.approx(all_cores.per_s * 4 / 96)
    captioning = load_pool(ROOT / "hwconfigs/pools/captioning.yaml")
    assert {device.kind for device in captioning.devices} == {"cpu", "gpu", "npu"}
    assert captioning.device("gpu:0").shares is None  # the laptop's own shares the CPU's memory


def test_names_in_the_docs_are_there() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for section, name in re.findall(r"hwconfigs/(devices|pools)/([\w.-]+)\.yaml", text):
        assert name in catalogue.names(section)
    for name in re.findall(r"--hardware ([a-z0-9-]+)[\s`)]", text):
        assert name in catalogue.names(POOLS)


def test_the_page_is_current() -> None:
    """`python -m benchmarks.catalogue_page` writes it."""
    assert catalogue_page.PAGE.read_text(encoding="utf-8") == catalogue_page.page()


@pytest.mark.parametrize(
    ("reported", "kind", "extensions", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "gpu", "", "a100-sxm-80g"),
        ("NVIDIA A100-PCIE-40GB", "gpu", "", None),
        ("NVIDIA H100 80GB HBM3", "gpu", "", "h100-sxm"),
        ("NVIDIA H100 PCIe", "gpu", "", None),
        ("NVIDIA GeForce RTX 4090", "gpu", "", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "gpu", "", None),
        ("NVIDIA L4", "gpu", "", "l4"),
        ("NVIDIA L40S", "gpu", "", None),
        ("NVIDIA L4", "cpu", "", None),
        ("Tesla T4", "gpu", "", "t4"),
        ("AMD Instinct MI300X", "gpu", "", "mi300x"),
        ("Intel(R) Arc(TM) 140V GPU (16GB) (iGPU)", "gpu", "", "lunar-lake-gpu"),
        ("Intel(R) Arc(TM) Graphics (iGPU)", "gpu", "", None),
        ("Intel(R) Core(TM) Ultra 7 155H", "cpu", "avx2 avx_vnni", "meteor-lake-cpu"),
        ("Intel(R) Core(TM) Ultra 7 255H", "cpu", "avx2 avx_vnni", None),
        ("Intel(R) Core(TM) Ultra 7 258V", "cpu", "avx2 avx_vnni", "lunar-lake-cpu"),
        ("Intel(R) Xeon(R) Platinum 8480+", "cpu", "avx512f amx_bf16", "xeon-8480-plus"),
        ("Intel(R) AI Boost", "npu", "", None),
        ("MLU370-X4", "mlu", "", "mlu370-x4"),
        ("MLU370-X8", "mlu", "", "mlu370-x8-chip"),
        ("Ascend910B3", "npu", "", "ascend-910b3"),
        ("AMD EPYC 9654 96-Core Processor", "cpu", "avx2 avx512_bf16", "epyc-9654"),
        ("AMD EPYC", "cpu", "avx2", None),
        ("AMD EPYC", "cpu", "avx2 avx512_bf16", "epyc-9654"),
        ("AMD EPYC", "cpu", "avx2 avx512_bf16 avx512_vp2intersect", "epyc-9755"),
        ("AMD EPYC 7742 64-Core Processor", "cpu", "avx2", None),
        ("", "cpu", "", None),
    ],
)
def test_names_of_drivers(reported: str, kind: str, extensions: str, name: str | None) -> None:
    found = matching(reported, kind, extensions.split())
    assert (None if found is None else found.id) == name


@pytest.fixture
def other_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty catalogue; what was read of the other one is forgotten before and after."""
    for cached in (catalogue.descriptor, catalogue._reported):
        monkeypatch.setattr(catalogue, cached.__name__, cached.__wrapped__)
    monkeypatch.setattr(catalogue, "folder", lambda section="": tmp_path / section)
    (tmp_path / "devices").mkdir()
    return tmp_path / "devices"


def test_a_damaged_file_breaks_no_discovery(
    other_catalogue: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = (ROOT / "hwconfigs/devices/l4.yaml").read_text(encoding="utf-8")
    (other_catalogue / "l4.yaml").write_text(text, encoding="utf-8")
    (other_catalogue / "broken.yaml").write_text(f"{text}\nnonsense: [", encoding="utf-8")
    (other_catalogue / "unread.yaml").mkdir()
    with caplog.at_level(logging.WARNING, "dioe"):
        found = matching("NVIDIA L4", "gpu")
    assert found is not None
    assert found.id == "l4"
    assert "broken.yaml is left out" in caplog.text
    assert "unread.yaml is left out" in caplog.text
    assert discover_host().known_as is KnownAs.HARDWARE


def test_no_catalogue_breaks_no_discovery(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(section: str = "") -> Path:
        raise ConfigError("the catalogue isn't there", place=section, fix="install DIOE again")

    monkeypatch.setattr(catalogue, "_reported", catalogue._reported.__wrapped__)
    monkeypatch.setattr(catalogue, "folder", gone)
    assert matching("NVIDIA L4", "gpu") is None
    assert "the catalogue isn't there" in caplog.text


def placement(name: str, kind: str, known_as: KnownAs = KnownAs.HARDWARE) -> Placement:
    info = DeviceInfo(f"{kind}:0", kind, name, known_as=known_as, memory_bytes=23 * 2**30)
    return Placement(info, {"cuda": f"{kind}:0"})


def test_a_device_that_is_found_gets_the_figures() -> None:
    host = Pool((DeviceSpec("cpu"),))
    (_, found) = with_devices(host, [placement("NVIDIA L4", "gpu")]).devices
    assert found.device == "l4"
    assert found.figures == descriptor("l4").figures
    assert found.memory_bytes == 23 * 2**30  # as the driver says
    assert found.name == "NVIDIA L4"
    (_, unknown) = with_devices(host, [placement("Acme 1", "gpu")]).devices
    assert (unknown.device, unknown.figures) == ("", Figures())
    simulated = placement("NVIDIA L4", "gpu", KnownAs.SIMULATED)
    assert with_devices(host, [simulated]).devices[1].figures == Figures()


def test_figures_leave_the_fingerprint_as_it_is() -> None:
    pool = with_devices(Pool((discover_host(),)), [placement("NVIDIA L4", "gpu")])
    bare = replace(
        pool, devices=tuple(replace(d, device="", figures=Figures()) for d in pool.devices)
    )
    assert bare != pool
    assert fingerprint(bare) == fingerprint(pool)


def test_a_pool_is_saved_with_names_for_what_the_catalogue_knows(tmp_path: Path) -> None:
    known = descriptor("l4").figures
    (measured, *_) = known.peaks
    measured = measured.model_copy(
        update={"kind": FigureKind.MEASURED, "value": 2.1e13, "source": "dioe calibrate"}
    )
    own = Figures(peaks=(measured,)).over(known)
    gpu = DeviceSpec("gpu:0", device="l4", name="NVIDIA L4", figures=own, known_as=KnownAs.HARDWARE)
    pool = Pool((gpu,))
    save_pool(pool, tmp_path / "pool.yaml")
    text = (tmp_path / "pool.yaml").read_text(encoding="utf-8")
    assert "device: l4" in text
    assert text.count("source") == 1  # that of the measured peak
    again = load_pool(tmp_path / "pool.yaml")
    assert again == pool
    assert fingerprint(again) == fingerprint(pool)


def test_what_figures_have_beside_others() -> None:
    made: dict[str, Any] = {"source": "dioe calibrate", "kind": FigureKind.MEASURED}
    own = Figures(
        peaks=(Peak(precision=Arithmetic.FP16, value=1.5e12, backend="toy", **made),),
        memory=MemorySection(bandwidth=BandwidthFigure(value=1.5e10, **made)),
        launch_overhead=TimeFigure(value=5e-6, **made),
    )
    for name in catalogue.names():
        known = descriptor(name).figures
        assert known.beside(known) == Figures()
        assert known.beside(Figures()) == known
        assert own.over(known).beside(known) == own


def test_imports_and_help_read_no_descriptor() -> None:
    code = """
import contextlib, sys, dioe, dioe.hardware
from dioe.cli import main
sys.argv = ["dioe", "--help"]
with contextlib.suppress(SystemExit):
    main()
from dioe.hardware import catalogue
assert catalogue.descriptor.cache_info().misses == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
