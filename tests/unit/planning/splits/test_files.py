"""Instances and splits as files. What is wrong with one, the tests of the command show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dioe.planning.splits import instance as instance_module
from dioe.planning.splits import parse_instance, parse_split, read_instance, split_text
from dioe.types import InputError
from tests.unit.planning.splits.made import content, made, split_of

DIAMOND = content([(1, 2, 3)] * 4, [(1, 2, 0.5), (1, 3, 0.5), (2, 4, 0.1), (3, 4, 0.1)])


def test_what_is_read() -> None:
    instance = parse_instance(DIAMOND, "here")
    assert instance.edges == ((0, 1), (0, 2), (1, 3), (2, 3))
    assert instance.costs == (0.5, 0.1, 0.1, 0.0)
    assert instance.predecessors == ((), (0,), (0,), (1, 2))
    assert instance.order[0] == 0
    assert instance.order[-1] == 3
    assert len(instance.groups) == 4


def test_what_the_published_programs_accept() -> None:
    nodes = [dict(node) for node in DIAMOND["nodes"]]
    for node in nodes:
        del node["size"]  # of all nodes
        node["supportedOnFpga"] = 1
        node["colorClass"] = None
        node["id"] = float(node["id"])
    edges = [*DIAMOND["edges"], DIAMOND["edges"][0]]  # twice the same
    instance = parse_instance({**DIAMOND, "nodes": nodes, "edges": edges}, "here")
    assert [node.size_bytes for node in instance.nodes] == [0, 0, 0, 0]
    assert len(instance.edges) == 4
    assert len(instance.groups) == 4


def test_one_size_that_is_missing() -> None:
    nodes = [dict(node) for node in DIAMOND["nodes"]]
    del nodes[2]["size"]
    with pytest.raises(InputError, match=r"nodes\[2\] \(id 3\)\.size: is missing"):
        parse_instance({**DIAMOND, "nodes": nodes}, "here")


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.json"
    path.write_text(json.dumps(DIAMOND))
    assert read_instance(path)
    monkeypatch.setattr(instance_module, "MAX_FILE_BYTES", 100)
    with pytest.raises(InputError, match="larger than"):
        read_instance(path)


def test_deep_graphs() -> None:
    count = 20_000
    instance = made([(1, 1)] * count, [(n, n + 1, 0.1) for n in range(1, count)])
    assert len(instance.order) == count


def test_splits_there_and_back() -> None:
    instance = made([(1, 1)] * 4, cpus=2)
    split = split_of(instance, [[2, 4], [3]])
    text = split_text(instance, split)
    assert json.loads(text) == {
        "cpus": [{"nodes": [1]}, {"nodes": []}],
        "fpgas": [{"nodes": [2, 4]}, {"nodes": [3]}],
    }
    assert parse_split(json.loads(text), instance, "here") == split


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "here: cpus: a list of devices"),
        ({"cpus": []}, "here: fpgas: a list of devices"),
        ({"cpus": [], "fpgas": [[1]]}, r"here: fpgas\[0\].nodes: a list of ids"),
        ({"cpus": [{"nodes": [9]}], "fpgas": []}, r"here: cpus\[0\].nodes: 9 is the id of no node"),
    ],
)
def test_splits_that_are_none(value: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_split(value, made([(1, 1)]), "here")


def test_times_that_add_up_to_no_number_are_refused() -> None:
    with pytest.raises(InputError, match="add up to more than a number can be"):
        made([(1e308, 1, 1)] * 2)
