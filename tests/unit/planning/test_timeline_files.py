"""Timelines as pictures and as traces."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import (
    BlockNode,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    Problem,
    Schedule,
    TargetCosts,
    solve,
)
from dioe.planning import timeline_svg as svg_module
from dioe.planning.timeline_svg import tick_step, timeline_svg
from dioe.planning.timeline_trace import timeline_trace
from dioe.planning.tracks import memory_steps, tracks
from dioe.types import Precision, Target

SVG = "{http://www.w3.org/2000/svg}"


def schedule(count: int = 4, *, name: str = "block", weight: int = 100) -> Schedule:
    """A chain of blocks that go to and fro between two devices, each of which runs every other."""
    blocks = tuple(
        BlockNode(f"{name}{i}", "conv", (f"op{i}",), {f"v{i}": 1000}, {f"v{i + 1}": 1000}, weight)
        for i in range(count)
    )
    targets = tuple(
        TargetCosts(
            Target(device, "*", (Precision.FP32,)),
            {block.id: Cost(2.0) for block in blocks[start::2]},
            dispatch_ms=0.5,
        )
        for start, device in enumerate(("a", "b"))
    )
    links = tuple(
        LinkCosts(x, y, Line(0.25, 1e-3), queue)
        for x, y, queue in (("a", "b", "bus"), ("b", "a", ""))
    )
    problem = Problem(
        blocks, targets, (f"v{count}",), ("v0",),
        devices=(DeviceNode("a", memory_bytes=10**9), DeviceNode("b")), links=links, home="a",
    )  # fmt: skip
    return solve(problem, work_limit=5)


def boxes(text: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(text).findall(f"{SVG}g")


# --- tracks ------------------------------------------------------------------------------------


def test_tracks_are_lanes_and_queues_with_all_that_happens() -> None:
    found = schedule()
    a, b, back, bus = tracks(found)
    assert [t.name for t in (a, b, back, bus)] == ["a", "b", "b to a", "bus"]
    assert [t.device for t in (a, b, back, bus)] == ["a", "b", "", ""]
    assert [len(t.bars) for t in (a, b, back, bus)] == [2, 2, 2, 2]
    for track in (a, b, back, bus):
        ends = [bar.end_ms for bar in track.bars]
        assert all(bar.start_ms >= end for end, bar in zip(ends, track.bars[1:], strict=False))
    assert max(bar.end_ms for t in (a, b, back, bus) for bar in t.bars) == found.latency_ms


def test_memory_steps_peak_where_the_schedule_says() -> None:
    found = schedule()
    steps = memory_steps(found)
    for device, peak in found.peak_bytes.items():
        assert max(nbytes for _, nbytes in steps[device]) == pytest.approx(peak)
        times = [time for time, _ in steps[device]]
        assert times == sorted(times)
        assert times[0] == 0.0


# --- traces ------------------------------------------------------------------------------------


def events(found: Schedule, phase: str) -> list[dict[str, Any]]:
    data = json.loads(timeline_trace(found, title="t"))
    assert data["displayTimeUnit"] == "ms"
    return [event for event in data["traceEvents"] if event["ph"] == phase]


def test_a_trace_has_every_stage_block_and_transfer_in_microseconds() -> None:
    found = schedule()
    complete = events(found, "X")
    kinds = [event["cat"] for event in complete]
    assert (kinds.count("stage"), kinds.count("block"), kinds.count("transfer")) == (4, 4, 4)
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in complete)
    assert max(event["ts"] + event["dur"] for event in complete) == pytest.approx(
        found.latency_ms * 1e3
    )
    stages = [event for event in complete if event["cat"] == "stage"]
    assert {event["dur"] for event in stages} == {2500.0}
    assert {event["args"]["target"] for event in stages} == {"a/*/fp32", "b/*/fp32"}


def test_processes_and_threads_of_a_trace_have_names() -> None:
    found = schedule()
    named = {e["pid"]: e["args"]["name"] for e in events(found, "M") if e["name"] == "process_name"}
    assert sorted(named.values()) == ["a", "b", "links"]
    threads = {
        (e["pid"], e["tid"]): e["args"]["name"]
        for e in events(found, "M")
        if e["name"] == "thread_name"
    }
    assert {(e["pid"], e["tid"]) for e in events(found, "X")} == threads.keys()


def test_arrows_of_a_trace_lead_from_bar_to_bar() -> None:
    found = schedule()
    bars = events(found, "X")
    starts, ends = events(found, "s"), events(found, "f")
    assert {e["id"] for e in starts} == {e["id"] for e in ends}
    assert len(starts) == 4
    for event in (*starts, *events(found, "t"), *ends):
        assert any(
            (bar["pid"], bar["tid"]) == (event["pid"], event["tid"])
            and bar["ts"] <= event["ts"] <= bar["ts"] + bar["dur"]
            for bar in bars
        )


def test_memory_of_a_trace_is_a_counter_a_device() -> None:
    found = schedule(weight=2**20)
    counted = events(found, "C")
    assert len({event["pid"] for event in counted}) == 2
    peak = max(found.peak_bytes.values()) / 2**20
    assert max(event["args"]["MiB"] for event in counted) == pytest.approx(peak)


# --- pictures ----------------------------------------------------------------------------------


def test_a_picture_has_a_box_for_each_stage_and_transfer() -> None:
    found = schedule()
    text = timeline_svg(found, title="a title")
    assert len(boxes(text)) == 8
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", text), "it needs nothing from elsewhere"
    assert "prefers-color-scheme: dark" in text
    texts = [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert {"a title", "a", "b", "bus", "a/*/fp32", "b/*/fp32", "block0"} <= set(texts)
    tips = [box.findtext(f"{SVG}title") for box in boxes(text)]
    assert any(tip and tip.startswith("s0 block0: ") and "a/*/fp32" in tip for tip in tips)


@pytest.mark.parametrize("width", [100, 480, 800, 2400])
def test_boxes_lie_on_the_picture(width: int) -> None:
    text = timeline_svg(schedule(), width=width)
    root = ElementTree.fromstring(text)
    wide = float(root.attrib["width"])
    assert wide == max(480, width)
    for box in root.iter(f"{SVG}rect"):
        if box.get("class") != "page":
            assert float(box.attrib["x"]) >= 0
            assert float(box.attrib["x"]) + float(box.attrib["width"]) <= wide


@settings(max_examples=20, deadline=None)
@given(name=st.text(min_size=1, max_size=12))
def test_names_are_escaped(name: str) -> None:
    found = schedule(2, name=f"<{name}&\"'")
    text = timeline_svg(found, title=f"</svg>{name}")
    assert len(boxes(text)) == 4
    text.encode("utf-8")
    json.loads(timeline_trace(found, title=name))


def test_too_many_boxes_are_folded_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svg_module, "MOST_BOXES", 40)
    text = timeline_svg(schedule(60))
    assert len(boxes(text)) <= 40
    (note,) = re.findall(r"(\d+) more boxes are drawn as parts of these", text)
    assert int(note) + len(boxes(text)) == 4 * 60 / 2


@given(span=st.floats(1e-6, 1e9), most=st.integers(1, 40))
def test_ticks_are_round_and_not_too_many(span: float, most: int) -> None:
    step = tick_step(span, most)
    assert span / step <= most * (1 + 1e-6)
    assert f"{step:.0e}"[0] in "125"
    assert span / step >= most / 5 - 1
