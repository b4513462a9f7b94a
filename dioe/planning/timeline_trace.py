"""A schedule's timeline as trace events, which https://ui.perfetto.dev and chrome://tracing show.

The format is Google's "Trace Event Format": complete events (``X``) with ``ts`` and ``dur`` in
microseconds, one process a device with a thread a lane, one process for the links with a thread a
queue; flow events from the stage that makes a value over its transfer to the stage that reads it;
counters of each device's memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from dioe.planning.lifetimes import BlockTime
from dioe.planning.schedule import Schedule
from dioe.planning.simulator import Transfer
from dioe.planning.tracks import Bar, Track, memory_steps, tracks

_LINKS = "links"
_US = 1e3
"""Microseconds in a millisecond."""
_INSIDE = 1e-3
"""An arrow starts this share of a bar before its end: what starts there would have it else."""


def timeline_trace(schedule: Schedule, *, title: str = "") -> str:
    """The trace of one request as JSON text; ``title`` is kept beside the events."""
    events = list(_Events(schedule).all())
    data = {
        "displayTimeUnit": "ms",
        "otherData": {"title": title, "policy": schedule.policy, "known_as": "modelled"},
        "traceEvents": events,
    }
    return json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n"


class _Events:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._tracks = tracks(schedule)
        memory = memory_steps(schedule)
        names = dict.fromkeys([*(t.device or _LINKS for t in self._tracks), *memory])
        self._memory = memory
        self._pids = {name: number for number, name in enumerate(names, 1)}
        self._tids: dict[str, int] = {}
        for track in self._tracks:
            self._tids[track.name] = len(self._tids) + 1
        self._stage_of = {
            block: number
            for number, stage in enumerate(schedule.placement.stages)
            for block in stage.blocks
        }
        self._places = {
            bar.stage: (track, bar)
            for track in self._tracks
            for bar in track.bars
            if bar.stage >= 0
        }

    def all(self) -> Iterator[Mapping[str, Any]]:
        yield from self._metadata()
        for track in self._tracks:
            for bar in track.bars:
                yield from self._bar(track, bar)
        yield from self._flows()
        for device, steps in self._memory.items():
            for time_ms, nbytes in steps:
                yield {
                    "ph": "C", "name": "memory", "pid": self._pids[device], "ts": time_ms * _US,
                    "args": {"MiB": nbytes / 2**20},
                }  # fmt: skip

    def _metadata(self) -> Iterator[Mapping[str, Any]]:
        for name, pid in self._pids.items():
            yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
            yield {"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}
        for track in self._tracks:
            about = {"pid": self._pids[track.device or _LINKS], "tid": self._tids[track.name]}
            yield {"ph": "M", "name": "thread_name", **about, "args": {"name": track.name}}

    def _bar(self, track: Track, bar: Bar) -> Iterator[Mapping[str, Any]]:
        where = self._where(track)
        args: dict[str, Any] = {"target": bar.target}
        if bar.transfer is not None:
            args = {"from": bar.transfer.source, "to": bar.transfer.destination}
        yield {
            "ph": "X", "name": bar.name, "cat": "transfer" if bar.transfer else "stage", **where,
            "ts": bar.start_ms * _US, "dur": (bar.end_ms - bar.start_ms) * _US, "args": args,
        }  # fmt: skip
        if bar.stage >= 0:
            for block in self._blocks.get(bar.stage, ()):
                yield {
                    "ph": "X", "name": block.block, "cat": "block", **where,
                    "ts": block.start_ms * _US, "dur": (block.end_ms - block.start_ms) * _US,
                }  # fmt: skip

    def _where(self, track: Track) -> dict[str, int]:
        return {"pid": self._pids[track.device or _LINKS], "tid": self._tids[track.name]}

    @cached_property
    def _blocks(self) -> Mapping[int, list[BlockTime]]:
        found: dict[int, list[BlockTime]] = {}
        for block in self._schedule.blocks:
            found.setdefault(self._stage_of[block.block], []).append(block)
        return found

    # --- arrows ----------------------------------------------------------------------------------

    def _flows(self) -> Iterator[Mapping[str, Any]]:
        """An arrow for each transfer that is drawn, from the stage that made the value to those
        that read it there."""
        number = 0
        for track in self._tracks:
            for bar in track.bars:
                if bar.transfer is None:
                    continue
                number += 1
                about = {"cat": "transfer", "name": bar.name, "id": number}
                yield from self._arrow(about, list(self._points(track, bar, bar.transfer)))

    def _arrow(
        self, about: Mapping[str, Any], points: Sequence[tuple[Track, float]]
    ) -> Iterator[Mapping[str, Any]]:
        """A flow through ``points``: tracks, and times in ms within a bar there."""
        if len(points) < 2:
            return
        for at, (track, time_ms) in enumerate(points):
            phase = "s" if at == 0 else "t"
            event = {**about, **self._where(track), "ts": time_ms * _US}
            yield {"ph": "f", "bp": "e", **event} if at == len(points) - 1 else {
                "ph": phase, **event
            }  # fmt: skip

    def _points(self, track: Track, bar: Bar, transfer: Transfer) -> Iterator[tuple[Track, float]]:
        source = self._source(transfer)
        if source is not None:
            made, its = source
            yield made, its.end_ms - _INSIDE * (its.end_ms - its.start_ms)
        yield track, bar.start_ms
        for at, reader in self._readers(transfer):
            yield at, reader.start_ms

    def _source(self, transfer: Transfer) -> tuple[Track, Bar] | None:
        producer = self._schedule.problem.producers.get(transfer.value)
        if producer is None:
            return None
        return self._places[self._stage_of[self._schedule.problem.blocks[producer].id]]

    def _readers(self, transfer: Transfer) -> Iterator[tuple[Track, Bar]]:
        """The first stage that reads it on the device that it goes to."""
        problem = self._schedule.problem
        stages = {
            self._stage_of[problem.blocks[user].id]
            for user in problem.readers.get(transfer.value, ())
        }
        there = [
            self._places[s] for s in stages if self._places[s][0].device == transfer.destination
        ]
        if there:
            yield min(there, key=lambda place: place[1].start_ms)
