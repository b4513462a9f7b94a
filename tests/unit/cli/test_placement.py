"""``dioe placement``."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dioe.planning.splits import judge, read_instance, read_split
from dioe.types import ConfigError, InputError, OutOfMemory, UnsupportedError
from tests.unit.cli.conftest import Dioe
from tests.unit.planning.splits.made import PUBLISHED, content

SMALL = content(
    [(10, 1), (20, 2), (30, 3), (40, 4, 1, 7), (5, 1, 1, 7)],
    [(1, 2, 0.1), (1, 3, 0.1), (2, 4, 0.2), (3, 4, 0.3), (4, 5, 0.3)],
    cpus=2,
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return written(tmp_path, SMALL)


def written(folder: Path, value: object) -> Path:
    path = folder / "instance.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_split_is_written_and_judged(dioe: Dioe, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.json"
    shown = dioe("placement", small, "--time-limit", 0.5, "--out", out)
    assert shown.code == 0, shown.err
    assert "latency 11.000" in shown.out
    assert "split written to" in shown.out
    file = json.loads(out.read_text())
    assert set(file) == {"cpus", "fpgas"}
    assert file["cpus"] == [{"nodes": []}, {"nodes": []}]
    assert file["fpgas"] == [{"nodes": [1, 2, 3, 4, 5]}]


def test_published_instance_for_machines(dioe: Dioe, tmp_path: Path) -> None:
    out = tmp_path / "split.json"
    file = PUBLISHED / "bert24_layers.json"
    told = dioe("placement", file, "--time-limit", 2, "--out", out, "--json").json
    instance = read_instance(file)
    judgement = judge(instance, read_split(out, instance))
    assert judgement.faults == ()
    assert told["latency"] == pytest.approx(judgement.latency)
    assert told["latency"] <= 100.219
    assert math.fsum(d["size_bytes"] for d in told["devices"]) == math.fsum(
        node.size_bytes for node in instance.nodes
    )
    assert all(d["size_bytes"] <= told["memory_bytes"] for d in told["devices"])


def test_throughput(dioe: Dioe, small: Path) -> None:
    told = dioe("placement", small, "--time-limit", 0.5, "--objective", "throughput", "--json").json
    # {1, 2} and {3, 4, 5}: 3 + 0.1 + 0.2 and 8 + 0.1 + 0.2, or {1, 2, 3}: 6 + 0.5, and 6 + 0.5
    assert told["max_load"] == pytest.approx(6.5)
    assert told["objective"] == "throughput"


def test_wide_and_narrow(dioe: Dioe, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        shown = dioe("placement", small, "--time-limit", 0.3).out
        assert max(map(len, shown.splitlines())) <= width
        assert "…" not in shown


BROKEN: list[tuple[Any, str]] = [
    ("{", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("[]", "is a list, not an instance"),
    ({**SMALL, "nodes": []}, "there are no nodes"),
    ({k: v for k, v in SMALL.items() if k != "edges"}, "instance.json.edges: is missing"),
    ({**SMALL, "maxSizePerFPGA": -1}, "maxSizePerFPGA: is -1"),
    ({**SMALL, "maxFPGAs": 1.5}, "maxFPGAs: is 1.5"),
    ({**SMALL, "maxCPUs": True}, "maxCPUs: is true"),
    ({**SMALL, "nodes": [*SMALL["nodes"], SMALL["nodes"][1]]}, "id 2 is that of nodes[1] too"),
    ({**SMALL, "nodes": [*SMALL["nodes"], 5]}, "nodes[5]: is 5, not a node"),
    ({**SMALL, "edges": [{"sourceId": 1, "destId": 9, "cost": 1}]}, "edges[0].destId"),
    ({**SMALL, "edges": [{"sourceId": 1, "destId": 1, "cost": 1}]}, "1 -> 1 wait for each other"),
]


@pytest.mark.parametrize(("value", "words"), BROKEN)
def test_malformed_files(dioe: Dioe, tmp_path: Path, value: object, words: str) -> None:
    out = tmp_path / "split.json"
    shown = dioe("placement", written(tmp_path, value), "--out", out)
    assert shown.code == InputError.exit_code
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert not out.exists()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-3", "1e999", '"5"', "null", "true"])
@pytest.mark.parametrize("field", ["cpuLatency", "fpgaLatency", "size"])
def test_numbers_that_are_none(dioe: Dioe, tmp_path: Path, number: str, field: str) -> None:
    node = {**SMALL["nodes"][2], field: "HERE"}
    text = json.dumps({**SMALL, "nodes": [*SMALL["nodes"][:2], node, *SMALL["nodes"][3:]]})
    shown = dioe("placement", written(tmp_path, text.replace('"HERE"', number)))
    assert shown.code == InputError.exit_code
    assert f"nodes[2] (id 3).{field}: is " in shown.err


def test_a_circle_is_named(dioe: Dioe, tmp_path: Path) -> None:
    edges = [*SMALL["edges"], {"sourceId": 4, "destId": 2, "cost": 0.3}]
    shown = dioe("placement", written(tmp_path, {**SMALL, "edges": edges}))
    assert shown.code == InputError.exit_code
    assert "nodes 2 -> 4 -> 2 wait" in shown.err or "nodes 4 -> 2 -> 4 wait" in shown.err


def test_costs_that_differ(dioe: Dioe, tmp_path: Path) -> None:
    edges = [{**SMALL["edges"][0], "cost": 9}, *SMALL["edges"][1:]]
    shown = dioe("placement", written(tmp_path, {**SMALL, "edges": edges}))
    assert shown.code == InputError.exit_code
    assert "edges[1]: cost is 0.1, and 9 on another edge" in shown.err


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"maxCPUs": 0, "maxSizePerFPGA": 1}, UnsupportedError),
        ({"maxCPUs": 0, "maxSizePerFPGA": 2}, OutOfMemory),
        ({"maxCPUs": 0, "maxFPGAs": 0}, UnsupportedError),
    ],
)
def test_nowhere_to_run(
    dioe: Dioe, tmp_path: Path, change: dict[str, int], error: type[InputError]
) -> None:
    shown = dioe("placement", written(tmp_path, {**SMALL, **change}), "--time-limit", 0.3)
    assert shown.code == error.exit_code
    assert shown.out == ""


def test_output_files_that_would_be_lost(dioe: Dioe, small: Path, tmp_path: Path) -> None:
    assert dioe("placement", small, "--out", small).code == InputError.exit_code
    other = tmp_path / "other.json"
    other.write_text('{"nodes": []}')
    assert dioe("placement", small, "--out", other).code == InputError.exit_code
    assert dioe("placement", small, "--out", tmp_path).code == ConfigError.exit_code
    assert dioe("placement", tmp_path / "none.json").code == InputError.exit_code
    assert other.read_text() == '{"nodes": []}'


def test_time_limits(dioe: Dioe, small: Path) -> None:
    for limit in ("0", "-1", "nan", "inf"):
        found = dioe("placement", small, "--time-limit", limit)
        assert found.code == InputError.exit_code
        assert f"{limit} seconds are no time limit" in found.err


def test_interrupted_it_ends_at_once_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "split.json"
    file = PUBLISHED / "bert_l-3_ops.json"
    command = [sys.executable, "-m", "dioe", "placement", str(file), "--time-limit", "60"]
    with subprocess.Popen(
        [*command, "--out", str(out)], stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(3)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert time.monotonic() - begin < 5
    assert process.returncode == 130
    assert "interrupted; nothing was written" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
