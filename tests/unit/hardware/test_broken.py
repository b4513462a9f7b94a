"""Broken files: each tells every place that is wrong, and none gives a traceback.

The files are in ``broken/``; ``FOUND`` says what has to be told of each: ``line:column`` (after the
file's name, where it is another than the one that is validated), and a part of the cause or the
fix.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dioe.cli.app import run
from dioe.hardware.catalogue import folder
from dioe.hardware.findings import Severity
from dioe.hardware.pool_file import MAX_DEPTH, MAX_FILES
from dioe.hardware.validate import Report, State, validate
from dioe.types import ConfigError
from dioe.yaml_text import MAX_BYTES

BROKEN = Path(__file__).parent / "broken"
SOUND = (*folder("devices").glob("*.yaml"), *folder("pools").glob("*.yaml"))

FOUND: dict[str, list[tuple[str, str]]] = {
    "aliases-of-figures": [("7:22", "the file nests deeper than 32 or unfolds to more than 50000")],
    "another-file": [("1:1", "none of the keys is of a file of DIOE's")],
    "bad-id": [("4:3", "devices[0].id is 'GPU 0': String should match pattern")],
    "bad-precision": [("7:3", "'fp64', 'fp32', 'tf32', 'fp16', 'bf16', 'fp8', 'int8' or")],
    "billion-laughs": [("3:26", "the file nests deeper than 32 or unfolds to more than 50000")],
    "bits": [("7:15", "in 'Gb/s': those are bits; give bytes (8 bits)")],
    "boolean-for-count": [("6:9", "a valid integer")],
    "bus-to-nowhere": [("10:3", "'pcie' is no bus of the pool")],
    "date-for-id": [("3:1", "a valid string")],
    "descriptor-absolute": [("4:3", "'/etc/mine.yaml' is no YAML file beside this one")],
    "descriptor-damaged": [("version-2.yaml:2:1", "version is 2")],
    "descriptor-missing": [("5:3", "no such file: ./none.yaml")],
    "descriptor-misspelt": [("5:3", "did you mean 'mlu370-x8'?")],
    "descriptor-of-another-kind": [("5:3", "'./a-cpu.yml' is a cpu, not a gpu")],
    "duplicate-buses": [("8:4", "a second bus has the id 'pcie'")],
    "duplicate-factors": [("9:8", "a second factor is that of matmul fp32 openvino")],
    "duplicate-ids": [("6:3", "a second device has the id 'cpu'")],
    "duplicate-key-nested": [("9:3", "the key 'value' is written twice")],
    "duplicate-key": [("6:1", "the key 'kind' is written twice")],
    "duplicate-modes": [("9:6", "a second mode is called 'MAXN'")],
    "duplicate-peaks": [("11:3", "a second peak is that of fp16")],
    "duplicate-sets": [("10:6", "a second one is of 1 MiB")],
    "empty-source": [("10:3", "peaks[0].source is '': String should have at least 1")],
    "empty": [("", "the file is empty, not a mapping")],
    "forbids-no-precision": [("8:13", "'fp32', 'fp16', 'bf16', 'int8' or 'int4'")],
    "exponents": [
        ("7:10", "no size: it has to be 0 or more, and finite"),
        ("8:15", "no bandwidth: it has to be above 0, and finite"),
        ("9:19", "no time: it has to be 0 or more, and finite"),
    ],
    "fraction-of-a-byte": [("7:10", "no whole number of bytes: it is 1.5")],
    "hair-of-a-byte": [("7:10", "no whole number of bytes: it is 1e-9990")],
    "half-a-surrogate": [("6:1", "a text holds half of a surrogate pair")],
    "huge-integer": [("5:3", "devices[0].memory_bytes is an integer beyond 2 to the 64th")],
    "include-a-folder": [("3:11", "no such file: folder.yaml")],
    "include-absolute": [("3:11", "'/etc/pool.yaml' is no YAML file beside this one")],
    "include-damaged": [("bits.yaml:1:1", "which should be 'dioe-pool'")],
    "include-each-other-a": [
        (
            "include-each-other-b.yaml:5:3",
            "the files include each other: include-each-other-a.yaml ->",
        )
    ],
    "include-each-other-b": [
        (
            "include-each-other-a.yaml:4:3",
            "the files include each other: include-each-other-b.yaml ->",
        )
    ],
    "include-itself": [("3:11", "the files include each other: include-itself.yaml ->")],
    "include-missing": [("6:3", "no such file: none.yaml")],
    "include-no-yaml": [("3:11", "'../../../../pyproject.toml' is no YAML file beside this one")],
    "include-ring-a": [
        ("include-ring-c.yaml:3:11", "the files include each other: include-ring-a.yaml ->")
    ],
    "include-ring-b": [
        ("include-ring-a.yaml:3:11", "the files include each other: include-ring-b.yaml ->")
    ],
    "include-ring-c": [
        ("include-ring-b.yaml:3:11", "the files include each other: include-ring-c.yaml ->")
    ],
    "include-then-nowhere": [("link-to-nowhere.yaml:8:3", "did you mean 'gpu:0'?")],
    "infinite-quantity": [("8:3", "no rate of operations: it has to be above 0, and finite")],
    "infinite": [("7:13", "a finite number")],
    "key-like-no-other": [("5:3", "known keys: id, kind, device, name")],
    "kind-against-id": [("5:3", "'gpu:0' is no device of kind 'npu'")],
    "kind-unknown": [("9:3", "'measured', 'vendor', 'third_party', 'derived' or")],
    "limit-on-every-memory": [("8:5", "'*' is no device of the pool")],
    "limit-on-nothing": [("8:5", "did you mean 'gpu:0'?")],
    "link-to-itself": [("7:17", "a link goes from one device to another")],
    "link-to-nowhere": [("8:3", "did you mean 'gpu:0'?")],
    "link-twice": [("8:4", "a second link goes from 'cpu' to 'gpu:0'")],
    "list-for-figure": [("6:1", "a mapping")],
    "list-on-top": [("1:1", "the file is a list, not a mapping")],
    "minutes": [("10:13", "unknown unit 'min'; units: s, ms, us, µs, ns")],
    "misspelt-in-figure": [
        ("7:3", "the key 'source' is missing"),
        ("10:5", "did you mean 'source'?"),
    ],
    "misspelt-in-limits": [("7:3", "did you mean 'max_stages'?")],
    "misspelt-in-link": [("10:3", "did you mean 'both_ways'?")],
    "misspelt-in-memory": [("7:3", "did you mean 'bandwidth'?")],
    "misspelt-in-peak": [("11:3", "did you mean 'accumulator'?")],
    "misspelt-in-pool-figures": [("8:7", "did you mean 'tdp'?")],
    "misspelt-in-profile": [("4:5", "did you mean 'kernel_fusion'?")],
    "misspelt-section": [("6:1", "did you mean 'memory'?")],
    "misspelt-top": [("1:1", "the key 'kind' is missing"), ("5:1", "did you mean 'kind'?")],
    "mode-unknown": [("11:3", "'MAXX' is no power mode of the device")],
    "name-too-long": [("3:11", "no such file: aaaa"), ("6:3", "no such file: ./bbbb")],
    "nan-quantity": [("8:3", "no rate of operations: write a number and a unit, '312")],
    "nan": [("5:3", "a finite number")],
    "negative": [("8:3", "no rate of operations: it has to be above 0, and finite")],
    "nested-aliases": [("3:7", "the file nests deeper than 32 or unfolds to more than 50000")],
    "no-date": [("6:8", "a value can't be read: month must be in 1..12")],
    "no-devices": [("1:1", "a pool has at least one device")],
    "no-format": [("1:1", "the key 'format' is missing")],
    "no-source": [("7:3", "the key 'source' is missing")],
    "no-unit": [("8:3", "no rate of operations with its unit, such as '100 TFLOPS'")],
    "not-utf-8": [("6:10", "not UTF-8 text (byte 64)")],
    "nul-byte": [("6:9", "not YAML: special characters are not allowed")],
    "nothing-written": [
        (
            "4:3",
            "devices[0].id is empty, which should be a valid string\nwrite one, or leave 'id' out",
        ),
        ("6:1", "links is empty, which should be a list\nwrite one, or leave 'links' out"),
    ],
    "number-as-key": [("4:3", "a key that is no text")],
    "options-outside": [("8:13", "'threads' isn't an option of the backend's own")],
    "pins-to-nothing": [
        ("7:3", "pins.head_* is ''"),
        ("8:3", "pins.tail_* is 'CPU'"),
        ("9:3", "at least 1 character"),
    ],
    "profile-list-as-fusion": [("4:5", "a valid boolean, or a valid string")],
    "profile-no-type": [("1:1", "the key 'type' is missing")],
    "profile-own-option": [("4:5", "'streams' isn't an option of the backend's own")],
    "profile-precision": [("3:3", "'fp32', 'fp16', 'bf16', 'int8' or 'int4'")],
    "several-at-once": [
        ("1:1", "the key 'kind' is missing"),
        ("3:1", "id is 'Two Words': String should match pattern"),
        ("4:1", "a valid string"),
        ("5:1", "did you mean 'kind'?"),
        ("6:1", "a list"),
    ],
    "several-contradictions": [
        ("7:3", "did you mean 'gpu:0'?"),
        ("9:17", "did you mean 'gpu:0'?"),
        ("9:101", "'b' is no bus of the pool"),
        ("11:12", "did you mean 'gpu:0'?"),
    ],
    "share-above-1": [("7:12", "less than or equal to 1")],
    "shares-nowhere": [("6:3", "'npu:0' is no other device of the pool")],
    "size-for-bandwidth": [("7:15", "unknown unit 'MiB'; did you mean 'MiB/s'?")],
    "tab": [("7:1", "not YAML: found character '\\t' that cannot start any token")],
    "tag-name": [("4:7", "the tag tag:yaml.org,2002:python/name:os.system is not")],
    "tag-object": [("6:8", "the tag tag:yaml.org,2002:python/object/apply:os.system is")],
    "tag-own": [("3:10", "the tag !include is not allowed: the file is plain data")],
    "text-for-section": [("6:1", "a mapping")],
    "too-deep": [("6:39", "the file nests deeper than 32 or unfolds to more than 50000")],
    "two-documents": [("6:1", "not YAML: but found another document")],
    "unclosed": [("7:6", "not YAML: expected ',' or ']', but got ':'")],
    "unit-case": [("7:15", "unknown unit 'gb/s'; did you mean 'GB/s'?")],
    "unit-without-number": [("8:3", "no rate of operations: write a number and a unit, '312")],
    "unknown-format": [("1:1", "did you mean 'dioe-device'?")],
    "version-2": [("2:1", "version is 2, which should be 1")],
    "version-as-text": [("2:1", "version is '1', which should be 1")],
    "watts-as-milli": [("7:9", "unknown unit 'w'; did you mean 'W'?")],
    "work-for-rate": [("8:3", "in 'TFLOP': that is work, not a rate; write TFLOPS")],
    "zero-bandwidth": [("7:15", "no bandwidth: it has to be above 0, and finite")],
}


def test_every_file_has_its_expectation() -> None:
    assert {path.stem for path in BROKEN.glob("*.yaml") if path.is_file()} == set(FOUND)
    assert len(FOUND) >= 30


@pytest.mark.parametrize("name", FOUND)
def test_every_place_is_told(name: str) -> None:
    path = BROKEN / f"{name}.yaml"
    report = validate(path)
    assert report.state is State.ERRORS
    assert [_place(finding.place, path) for finding in report.findings] == [
        place for place, _ in FOUND[name]
    ]
    for finding, (_, told) in zip(report.findings, FOUND[name], strict=True):
        assert told in f"{finding.cause}\n{finding.fix}"
        assert finding.severity is Severity.ERROR
        assert finding.fix


def _place(place: str, path: Path) -> str:
    return place.removeprefix(f"{path}").removeprefix(f"{path.parent}/").removeprefix(":")


def test_no_traceback_from_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for name in FOUND:
        assert run(["validate", str(BROKEN / f"{name}.yaml")]) == ConfigError.exit_code
        shown = capsys.readouterr()
        assert shown.err == ""
        assert "Traceback" not in shown.out
        assert re.search(r"error\b", shown.out)


@pytest.mark.parametrize("name", [n for n in FOUND if n.startswith("include-") or "link" in n])
def test_what_loads_pools_raises_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = BROKEN / f"{name}.yaml"
    assert run(["devices", "--hardware", str(path)]) == ConfigError.exit_code
    assert _place(validate(path).findings[0].place, path) in capsys.readouterr().err


def test_a_huge_file(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text("format: dioe-device\nnotes: " + "x" * MAX_BYTES)
    assert "larger than 1024 KiB" in one(path)


def test_includes_without_end(tmp_path: Path) -> None:
    for number in range(MAX_DEPTH + 3):
        text = f"format: dioe-pool\nversion: 1\ninclude: ['{number + 1}.yaml']\n"
        (tmp_path / f"{number}.yaml").write_text(text)
    assert "more than 8 deep" in one(tmp_path / "0.yaml")
    (tmp_path / "leaf.yaml").write_text("format: dioe-pool\nversion: 1\n")
    many = ", ".join(["leaf.yaml"] * (MAX_FILES + 1))
    (tmp_path / "many.yaml").write_text(f"format: dioe-pool\nversion: 1\ninclude: [{many}]\n")
    assert "or more than 64" in one(tmp_path / "many.yaml")


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    pool = "format: dioe-pool\nversion: 1\n"
    (tmp_path / "pool.yaml").write_text(f"{pool}include: [circle.yaml]\n")
    assert "no such file: circle.yaml" in one(tmp_path / "pool.yaml")
    (tmp_path / "device.yaml").write_text(f"{pool}devices: [{{id: cpu, device: circle.yaml}}]\n")
    assert "no such file: circle.yaml" in one(tmp_path / "device.yaml")
    assert "can't be read" in one(tmp_path / "circle.yaml")


def test_an_include_through_a_link_is_a_cycle_too(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").symlink_to("pool.yaml")
    (tmp_path / "pool.yaml").write_text("format: dioe-pool\nversion: 1\ninclude: [other.yaml]\n")
    assert "the files include each other" in one(tmp_path / "pool.yaml")


def test_a_folder_and_a_name_too_long(tmp_path: Path) -> None:
    assert "not a file" in one(tmp_path)
    assert "can't be read" in one(tmp_path / ("x" * 5000 + ".yaml"))


def one(path: Path) -> str:
    (finding,) = validate(path).findings
    assert finding.severity is Severity.ERROR
    return finding.cause


def judged(tmp_path: Path, text: bytes) -> Report:
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(text)
    return validate(path)


_TEXT = (
    "format version id name kind peaks precision value source memory bandwidth devices links bus "
    "include limits pins hardware type figures dioe-device dioe-pool cpu gpu:0 fp16 vendor 1 - [ ] "
    "{ } : , & * ! | > ? ' \" # .nan .inf null ~ 1e9 0x10 24 GiB 10 TFLOPS 2024-01-01 << \n \t"
)
_WORDS = st.sampled_from(_TEXT.split(" "))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_WORDS, max_size=40).map(lambda words: " ".join(words).replace("- ", "\n- ")))
def test_text_like_yaml_is_judged(tmp_path: Path, text: str) -> None:
    judged(tmp_path, text.encode())


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_sound_files_with_a_mistake_are_judged(tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(sorted(SOUND))).read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        new = data.draw(st.one_of(st.binary(max_size=4), _WORDS.map(str.encode)))
        text = text[:start] + new + text[start + length :]
    judged(tmp_path, text)
