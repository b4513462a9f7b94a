"""Lint: each rule finds what it is for, at the very key, and leaves sound figures alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dioe.hardware import catalogue
from dioe.hardware.findings import Finding, Severity
from dioe.hardware.standards import named_bandwidth, pcie_bandwidth
from dioe.hardware.validate import State, shipped, validate

HEAD = "format: dioe-device\nversion: 1\nid: x\nname: X\nkind: gpu\n"
POOL = "format: dioe-pool\nversion: 1\n"
SOURCE = "kind: vendor, source: its datasheet"


def figure(value: str, source: str = SOURCE) -> str:
    return f"{{value: {value}, {source}}}"


def peak(precision: str, value: str, more: str = "") -> str:
    return f"- {{precision: {precision}, value: {value}, {SOURCE}{more and ', ' + more}}}\n"


def found(tmp_path: Path, text: str, name: str = "x") -> tuple[Finding, ...]:
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    return validate(path).findings


LINK = "links:\n- source: cpu\n  destination: gpu:0\n  both_ways: true\n  bandwidth: "
TWO = POOL + "devices:\n- id: cpu\n- id: gpu:0\n"
PRECISIONS = "precisions:\n  hardware: [fp32]\n  source: its datasheet\n"

DEVICES = {
    "a source that is none": (
        f"cores: {figure('8', 'kind: vendor, source: T.B.D')}\n", []
    ),
    "todo": (f"cores: {figure('8', 'kind: vendor, source: todo')}\n", ["6:33 error source"]),
    "todo and more": (
        f"cores: {figure('8', 'kind: vendor, source: TODO find the page')}\n",
        ["6:33 error source"],
    ),
    "a word that begins so": (
        f"cores: {figure('8', 'kind: vendor, source: Todoist of Acme')}\n", []
    ),
    "dots": (f"cores: {figure('8', 'kind: vendor, source: ...')}\n", ["6:33 error source"]),
    "unverified": (
        f"cores: {figure('8', 'kind: unverified, source: unknown')}\n",
        ["6:19 warning unverified"],
    ),
    "too much memory": (
        f"memory:\n  size: {figure('24 TB')}\n", ["7:10 warning plausible"]
    ),
    "too little memory": (f"memory:\n  size: {figure('24 kB')}\n", ["7:10 warning plausible"]),
    "bandwidth in MB/s": (
        f"memory:\n  bandwidth: {figure('0.6 MB/s')}\n", ["7:15 warning plausible"]
    ),
    "a cache's bandwidth": (
        "memory:\n  by_working_set:\n"
        f"  - {{working_set: 1 MiB, value: 80 TB/s, {SOURCE}}}\n", []
    ),
    "peak": ("peaks:\n" + peak("fp16", "312 PFLOPS"), ["7:21 warning plausible"]),
    "watts": (f"power:\n  tdp: {figure('250 kW')}\n", ["7:9 warning plausible"]),
    "own sparse": (
        "peaks:\n" + peak("int8", "1979 TOPS", "sparse: 1978.9 TOPS"), ["7:21 error sparse"]
    ),
    "sparse below dense": (
        "peaks:\n" + peak("int8", "100 TOPS", "sparse: 50 TOPS"), ["7:21 error sparse"]
    ),
    "dense and sparse": ("peaks:\n" + peak("int8", "100 TOPS", "sparse: 200 TOPS"), []),
    "int8 below fp16": (
        "peaks:\n" + peak("fp16", "96 TFLOPS") + peak("int8", "24 TOPS"),
        ["8:21 warning precision-order"],
    ),
    "fp16 below fp32": (
        "peaks:\n" + peak("fp16", "1 TFLOPS") + peak("fp32", "9 TFLOPS"),
        ["7:21 warning precision-order"],
    ),
    "int8 below fp16 with cheap sums": (
        "peaks:\n" + peak("fp16", "200 TFLOPS", "accumulator: fp16")
        + peak("fp16", "100 TFLOPS", "accumulator: fp32")
        + peak("int8", "190 TOPS", "accumulator: int32"), []
    ),
    "other modes": (
        "power:\n  modes:\n"
        f"  - {{id: A, cap: {figure('30 W')}}}\n  - {{id: B, cap: {figure('15 W')}}}\n"
        "peaks:\n" + peak("fp16", "10 TFLOPS", "mode: A") + peak("int8", "7 TOPS", "mode: B"), []
    ),
    "what was measured": (
        "peaks:\n" + peak("fp16", "1 TFLOPS").replace("vendor", "measured")
        + peak("fp32", "9 TFLOPS").replace("vendor", "measured"), []
    ),
    "no such mode": (
        "peaks:\n" + peak("fp16", "1 TFLOPS", "mode: MAXN"), ["7:75 error mode"]
    ),
    "idle": (
        f"power:\n  tdp: {figure('75 W')}\n  idle: {figure('75 W')}\n", ["8:10 error power"]
    ),
    "cap": (
        f"power:\n  tdp: {figure('50 W')}\n  modes:\n  - {{id: A, cap: {figure('60 W')}}}\n",
        ["9:19 error power"],
    ),
    "software only": (
        PRECISIONS + "  software: [fp32, bf16]\n", ["9:3 warning precision"]
    ),
    "peak of what it has not": (
        PRECISIONS + "peaks:\n" + peak("fp16", "1 TFLOPS"), ["10:4 warning precision"]
    ),
    "precisions from nowhere": (
        "precisions:\n  hardware: [fp32]\n", ["6:1 warning precision-source"]
    ),
    "faster than its standard": (
        f"interconnects:\n- {{name: PCIe 4.0 x16, bandwidth: {figure('64 GB/s')}}}\n",
        ["7:36 error standard"],
    ),
    "as pages round it": (
        f"interconnects:\n- {{name: PCIe Gen4 x16, bandwidth: {figure('32 GB/s')}}}\n", []
    ),
    "no standard that is known": (
        f"interconnects:\n- {{name: MLU-Link, bandwidth: {figure('200 GB/s')}}}\n", []
    ),
}  # fmt: skip

POOLS = {
    "link and bus": (
        TWO + LINK + figure("32 GB/s") + f"\n  bus: b\nbuses:\n- id: b\n"
        f"  bandwidth: {figure('16 GB/s')}\n",
        ["10:15 error bus"],
    ),
    "several links over one bus": (
        TWO + "- id: gpu:1\n" + LINK + figure("16 GB/s") + "\n  bus: b\n"
        + LINK.partition("\n")[2].replace("gpu:0", "gpu:1") + figure("16 GB/s") + "\n  bus: b\n"
        + f"buses:\n- id: b\n  bandwidth: {figure('16 GB/s')}\n",
        [],
    ),
    "a link's standard": (
        TWO + LINK + figure("32 GB/s") + "\n  name: PCIe 3.0 x16\n", ["10:15 error standard"]
    ),
    "a bus's standard": (
        TWO + LINK + figure("8 GB/s")
        + f"\nbuses:\n- {{id: b, name: PCIe3 x8, bandwidth: {figure('16 GB/s')}}}\n",
        ["12:39 error standard"],
    ),
    "latency": (
        TWO + LINK + figure("8 GB/s") + f"\n  latency: {figure('10 s')}\n",
        ["11:13 warning plausible"],
    ),
    "a source": (
        TWO + LINK + figure("8 GB/s", "kind: derived, source: '?'") + "\n", ["10:45 error source"]
    ),
    "an interconnect": (
        POOL + "devices:\n- id: cpu\n- id: gpu:0\n  device: a100-sxm-80g\n- id: gpu:1\n"
        + LINK.replace("source: cpu", "source: gpu:1") + figure("600 GB/s") + "\n  name: NVLink 3\n"
        + LINK.partition("\n")[2] + figure("20 GB/s") + "\n",
        ["12:15 warning interconnect"],
    ),
    "unlinked": (TWO, ["5:3 warning unlinked"]),
    "linked through another": (
        TWO + "- id: gpu:1\n" + LINK + figure("8 GB/s") + "\n"
        + LINK.partition("\n")[2].replace("cpu", "gpu:1") + figure("9 GB/s") + "\n",
        [],
    ),
    "sharing": (TWO + "  shares: cpu\n", []),
    "sharing and linked": (
        TWO + "  shares: cpu\n" + LINK + figure("8 GB/s") + "\n", ["11:15 warning shared-link"]
    ),
    "sharing, and its own": (
        POOL + "devices:\n- id: cpu\n- id: gpu:0\n  device: l4\n  shares: cpu\n",
        ["7:3 warning shares"],
    ),
    "one way": (
        TWO + LINK.replace("  both_ways: true\n", "") + figure("8 GB/s") + "\n",
        ["7:3 warning one-way"],
    ),
    "a limit of nothing": (
        POOL + "devices:\n- {id: cpu, memory_bytes: 1073741824}\nlimits:\n"
        "  memory:\n    cpu: 2 GiB\n",
        ["7:5 warning memory"],
    ),
    "a limit above the descriptor's": (
        TWO + "  device: l4\n" + LINK + figure("8 GB/s")
        + "\nlimits: {memory: {'gpu:0': 32 GiB}}\n",
        ["12:19 warning memory"],
    ),
    "more than there is": (
        POOL + "devices:\n- id: cpu\n  memory_bytes: 20\n  memory_total_bytes: 10\n",
        ["5:3 error memory"],
    ),
    "more than the descriptor has": (
        TWO + f"  device: l4\n  memory_bytes: {32 << 30}\n" + LINK + figure("8 GB/s") + "\n",
        ["7:3 error memory"],
    ),
    "capacity": (
        POOL + "devices:\n- {id: cpu, logical_cores: 4, capacity: 5, cores: [0, 1]}\n",
        ["4:31 error cores"],
    ),
    "a core of two": (
        POOL + "devices:\n- {id: 'cpu:0', cores: [0, 1]}\n- {id: 'cpu:1', cores: [1, 2]}\n",
        ["5:25 warning cores-twice"],
    ),
    "a core listed twice": (
        POOL + "devices:\n- {id: cpu, cores: [0, 1, 0]}\n", ["4:27 warning cores-twice"]
    ),
    "figures against a descriptor's": (
        TWO + "  device: l4\n  figures:\n    peaks:\n    - {precision: int8, value: 30 TOPS, "
        f"accumulator: int32, {SOURCE}}}\n" + LINK + figure("8 GB/s") + "\n",
        ["9:25 warning precision-order"],
    ),
    "the catalogue's sparse figure": (
        TWO + "  device: h100-sxm\n  figures:\n    peaks:\n    - {precision: bf16, "
        f"value: 1979 TFLOPS, accumulator: fp32, {SOURCE}}}\n" + LINK + figure("8 GB/s") + "\n",
        ["9:25 error sparse"],
    ),
    "what was measured": (
        TWO + "  device: h100-sxm\n  figures:\n    peaks:\n    - {precision: fp16, "
        "value: 20 TFLOPS, backend: torch, kind: measured, source: here}\n" + LINK
        + figure("8 GB/s") + "\n",
        [],
    ),
}  # fmt: skip


def short(finding: Finding) -> str:
    _, line, column = finding.position
    return f"{line}:{column} {finding.severity} {finding.rule}"


@pytest.mark.parametrize(("text", "expected"), DEVICES.values(), ids=DEVICES.keys())
def test_devices(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert [short(finding) for finding in found(tmp_path, HEAD + text)] == expected


@pytest.mark.parametrize(("text", "expected"), POOLS.values(), ids=POOLS.keys())
def test_pools(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert [short(finding) for finding in found(tmp_path, text)] == expected


@pytest.mark.parametrize("path", shipped(), ids=lambda path: str(path.stem))
def test_what_is_shipped_is_clean(path: Path) -> None:
    report = validate(path)
    assert report.findings == ()
    assert report.state is State.OK


def test_a_copy_of_a_catalogued_device(tmp_path: Path) -> None:
    path = catalogue.path_of("h100-sxm")
    assert path is not None
    text = path.read_text(encoding="utf-8")
    assert found(tmp_path, text, "h100-sxm") == ()
    sparse = text.replace("value: 989.4 TFLOPS", "value: 1978.9 TFLOPS", 1)
    sparse = sparse.replace("  sparse: 1978.9 TFLOPS\n", "", 1)
    (finding,) = found(tmp_path, sparse.replace("id: h100-sxm", "id: mine"))
    assert (finding.rule, finding.severity) == ("sparse", Severity.ERROR)
    assert "whose dense one is 989.4 TFLOPS" in finding.cause


def test_twice_the_dense_figure_of_the_catalogue(tmp_path: Path) -> None:
    text = HEAD.replace("id: x", "id: rtx-4090") + "peaks:\n" + peak("int8", "1322 TOPS")
    (finding,) = found(tmp_path, text)
    assert finding.rule in ("double", "sparse")


def test_files_of_the_catalogue_are_called_as_their_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "folder", lambda section="": tmp_path)
    (finding,) = found(tmp_path, HEAD, "another")
    assert short(finding) == "3:1 error name"
    assert "x.yaml" in finding.fix


def test_an_included_files_figures_are_found_there(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        TWO + LINK + figure("32 GB/s") + "\n  bus: b\n"
        f"buses: [{{id: b, bandwidth: {figure('40 GB/s')}}}]\n"
    )
    text = (
        POOL + "include: [base.yaml]\n" + (f"buses:\n- id: b\n  bandwidth: {figure('16 GB/s')}\n")
    )
    (finding,) = found(tmp_path, text)
    assert finding.rule == "bus"
    assert Path(finding.position[0]).name == "base.yaml"


def test_pcie() -> None:
    # per direction: GT/s x lanes x encoding / 8
    table = {(1, 16): 4.0, (2, 16): 8.0, (3, 16): 15.754, (4, 16): 31.508, (5, 16): 63.015,
             (6, 16): 128.0, (4, 8): 15.754, (3, 1): 0.9846}  # fmt: skip
    for (generation, lanes), gbps in table.items():
        assert pcie_bandwidth(generation, lanes) == pytest.approx(gbps * 1e9, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("PCIe 4.0 x16", "PCIe 4.0 x16"),
        ("PCIe Gen4 x8", "PCIe 4.0 x8"),
        ("PCI Express 5.0 ×16", "PCIe 5.0 x16"),
        ("pcie3", "PCIe 3.0 x16"),
        ("NVLink 4", None),
        ("PCIe", None),
        ("MLU-Link", None),
        ("", None),
    ],
)
def test_names_of_standards(name: str, standard: str | None) -> None:
    known = named_bandwidth(name)
    assert (known and known[0]) == standard
