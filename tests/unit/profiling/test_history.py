"""The cost history keeps what was measured, between threads and processes."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.profiling import CostRecord, History, HistoryState, history, history_file
from dioe.types import InputError
from tests.unit.profiling.costs import (
    KEY,
    OTHERS,
    cost,
    file_of,
    forget,
    in_processes,
    key,
    p50,
    put_many_times,
)


@pytest.mark.parametrize("in_memory", [False, True])
def test_what_was_put_is_got(folder: Path, in_memory: bool) -> None:
    kept = History(None if in_memory else folder)
    assert kept.get(KEY) is None
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    extra = {"state": "ok", "ops": {"conv": [0.1, 3]}, "relative_l2": np.float32(0.5), "t": (1,)}
    kept.put(KEY, cost(extra=extra))
    found = kept.get(KEY)
    assert found is not None
    assert before <= datetime.fromisoformat(found.measured_at) <= datetime.now(UTC)
    assert dataclasses.replace(found, measured_at="") == cost(
        extra={"state": "ok", "ops": {"conv": [0.1, 3]}, "relative_l2": 0.5, "t": [1]}
    )
    for name, value in OTHERS.items():
        assert kept.get(dataclasses.replace(KEY, **{name: value})) is None


def test_a_later_process_finds_it(folder: Path) -> None:
    History(folder).put(KEY, cost(1.25, noisy=True))
    again = forget(folder)
    assert again.get(KEY) == History(folder).get(KEY)
    found = again.get(KEY)
    assert found is not None
    assert found.noisy


def test_an_empty_record_is_a_record(folder: Path) -> None:
    History(folder).put(KEY, CostRecord(extra={"state": "unsupported", "reason": "no such op"}))
    found = forget(folder).get(KEY)
    assert found is not None
    assert found.p50_ms is None
    assert found.extra["reason"] == "no such op"


def test_memory_is_each_historys_own() -> None:
    one = History(None)
    one.put(KEY, cost())
    assert History(None).get(KEY) is None
    assert one.path is None
    assert one.info().state is HistoryState.MEMORY
    assert one.info().entries == {"block": 1}
    assert one.clear() == 1
    assert one.get(KEY) is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), min_size=1, max_size=6))
def test_the_last_quiet_one_stays_or_else_the_last(costs: list[tuple[float, bool]]) -> None:
    kept = History(None)
    for p50_ms, noisy in costs:
        kept.put(KEY, cost(p50_ms, noisy=noisy))
    quiet = [p50_ms for p50_ms, noisy in costs if not noisy]
    assert p50(kept.get(KEY)) == (quiet or [costs[-1][0]])[-1]


@pytest.mark.parametrize(
    ("costs", "stays"),
    [("qq", 1), ("qn", 0), ("nq", 1), ("nn", 1), ("nqn", 1), ("qnq", 2), ("qnn", 0)],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_a_noisy_one_never_displaces_a_quiet_one(
    folder: Path, costs: str, stays: int, at_once: bool
) -> None:
    items = [(KEY, cost(float(i), noisy=kind == "n")) for i, kind in enumerate(costs)]
    if at_once:
        History(folder).put_many(items)
    for item in [] if at_once else items:
        History(folder).put(*item)
    assert p50(forget(folder).get(KEY)) == stays


def test_many(folder: Path) -> None:
    keys = [key(i) for i in range(1200)]
    History(folder).put_many((k, cost(float(i))) for i, k in enumerate(keys) if i % 3)
    found = forget(folder).get_many(reversed(keys))
    assert list(found) == [k for i, k in reversed(list(enumerate(keys))) if i % 3]
    assert [found[k].p50_ms for k in keys if k in found] == [i for i in range(1200) if i % 3]
    assert History(folder).get_many([]) == {}


def test_similar_costs_come_with_their_shapes(folder: Path) -> None:
    sizes = [224, 64, 128]
    for size in sizes:
        History(folder).put(key(shapes={"x": (1, size)}), cost(float(size)))
        for name in set(OTHERS) - {"shapes"}:
            other = dataclasses.replace(KEY, **{name: OTHERS[name], "shapes": {"x": (1, size)}})
            History(folder).put(other, cost(0.0))
    found = forget(folder).similar(key(shapes={"x": (1, 999)}))
    assert [(shapes, p50(record)) for shapes, record in found] == [
        ({"x": (1, size)}, float(size)) for size in sorted(sizes)
    ]
    assert History(folder).similar(key("another")) == []


def test_odd_names(folder: Path) -> None:
    """Names come out of models: quotes, other scripts, control characters, halves of pairs."""
    for i, name in enumerate(['it\'s "x"; --', "граф", "a\x00b", "\x1b[31m", "\ud800", ""]):
        odd = key(name, kind=f"k{i}", options={name: name}, shapes={name: (1,)})
        History(folder).put(odd, cost(float(i), extra={name: name}))
        again = forget(folder)
        found = again.get(odd)
        assert found is not None
        assert found.extra == {name: name}
        assert again.similar(odd) == [({name: (1,)}, found)]


def test_odd_places(tmp_path: Path) -> None:
    for name in ("with space?mode=memory#x", "%41", "кэш", os.fsdecode(b"\xff")):
        History(tmp_path / name).put(KEY, cost())
        assert p50(forget(tmp_path / name).get(KEY)) == 1.5
        assert file_of(tmp_path / name).is_file()


def test_a_relative_place_is_that_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = History("here")
    monkeypatch.chdir("/")
    kept.put(KEY, cost())
    assert file_of(tmp_path / "here").exists()


def test_looking_makes_no_file(folder: Path) -> None:
    kept = History(folder)
    assert kept.get(KEY) is None
    assert kept.similar(KEY) == []
    assert kept.flush() == 0
    assert kept.clear() == 0
    assert kept.export(io.StringIO()) == 0
    assert kept.info().state is HistoryState.ABSENT
    assert kept.info().path == file_of(folder)
    assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"x"])  # SQLite takes less than a header for nothing
def test_an_empty_file_is_a_beginning(folder: Path, content: bytes) -> None:
    folder.mkdir()
    file_of(folder).write_bytes(content)
    assert History(folder).info().state is HistoryState.OK
    assert History(folder).get(KEY) is None
    History(folder).put(KEY, cost())
    assert p50(forget(folder).get(KEY)) == 1.5


def test_nobody_else_may_read_it(folder: Path) -> None:
    old = os.umask(0)
    try:
        History(folder).put(KEY, cost())
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(folder).stat().st_mode) == 0o600
    assert os.listdir(folder) == [history.FILE_NAME]


def test_a_file_that_goes_is_made_again(folder: Path) -> None:
    kept = History(folder)
    kept.put(KEY, cost())
    file_of(folder).unlink()
    assert kept.get(KEY) is None
    kept.put(KEY, cost(2.0))
    assert p50(forget(folder).get(KEY)) == 2.0


# --- info, clear, export ------------------------------------------------------------------------


def test_info(folder: Path) -> None:
    moments = ["2026-01-02T03:04:05.678+00:00", "2026-03-01T00:00:00.000+00:00"]
    History(folder).put_many(
        [
            (key(1), cost(measured_at="2026-01-02T04:04:05.678+01:00")),
            (key(2), cost(measured_at=moments[1])),
            (key(3, kind="target"), cost(measured_at="2026-02-01T00:00:00Z")),
        ]
    )
    found = forget(folder).info()
    assert (found.state, found.reason) == (HistoryState.OK, "")
    assert found.path == file_of(folder)
    assert found.entries == {"block": 2, "target": 1}
    assert found.schema_version == len(history_file.MIGRATIONS)
    assert found.size_bytes == file_of(folder).stat().st_size
    assert [found.oldest, found.newest] == moments
    assert (found.unwritten, found.set_aside) == (0, ())


def test_clear(folder: Path) -> None:
    kept = History(folder)
    kept.put_many((key(i), cost(extra={"filler": "x" * 1000})) for i in range(500))
    size = file_of(folder).stat().st_size
    assert kept.clear() == 500
    assert kept.info().entries == {}
    assert kept.get(key(1)) is None
    assert file_of(folder).stat().st_size < size / 10
    kept.put(KEY, cost())
    assert p50(forget(folder).get(KEY)) == 1.5


def test_clear_by_age(folder: Path) -> None:
    kept = History(folder)
    for days in (0, 1, 10, 100):
        moment = datetime.now(UTC) - timedelta(days=days)
        kept.put(key(days), cost(measured_at=moment.isoformat()))
    assert kept.clear(older_than_days=5) == 2
    assert [days for days in (0, 1, 10, 100) if kept.get(key(days)) is not None] == [0, 1]
    assert kept.clear(older_than_days=0.5) == 1
    for wrong in (-1.0, math.nan, 1e300):
        with pytest.raises(InputError, match="older_than_days"):
            kept.clear(older_than_days=wrong)


def test_export(folder: Path) -> None:
    kept = History(folder)
    kept.put(KEY, cost(extra={"relative_l2": math.inf, "name": "a\nb"}, noisy=True))
    kept.put_many((key(i), cost(float(i))) for i in range(1200))
    out = io.StringIO()
    assert kept.export(out) == 1201
    lines = [json.loads(line, parse_constant=pytest.fail) for line in out.getvalue().splitlines()]
    assert len(lines) == 1201
    (noisy,) = (line for line in lines if line["record"]["noisy"])
    assert noisy["key"] == {
        "kind": "block",
        "subject": "0123abcd",
        "shapes": {"x": [1, 3, 224, 224], "mask": [1, 224]},
        "target": "cpu/toy/fp32",
        "resources": {"cores": [0, 1], "threads": 2, "spin": False},
        "options": {"fusion": True, "tile": [8, 8]},
        "versions": {"toy": "1.0"},
        "hardware": "cafe",
    }
    del noisy["record"]["measured_at"]
    assert noisy["record"] == {
        "p50_ms": 1.5,
        "p90_ms": 2.0,
        "p99_ms": 2.5,
        "spread_ms": 0.1,
        "runs": 20,
        "noisy": True,
        "extra": {"relative_l2": None, "name": "a\nb"},
    }


# --- threads and processes ----------------------------------------------------------------------


def test_several_threads(folder: Path) -> None:
    kept = History(folder)
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for i in range(25):
                kept.put(key(f"{thread}-{i}"), cost(float(i)))
                assert p50(kept.get(key(f"{thread}-{i}"))) == i
                kept.similar(KEY)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert forget(folder).info().entries == {"block": 100}


def test_several_processes_lose_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    in_processes(put_many_times, [(folder, i, 200) for i in range(4)])
    kept = History(folder)
    found = kept.get_many(key(f"{process}-{i}") for process in range(4) for i in range(200))
    assert [record.p50_ms for record in found.values()] == [float(i) for i in range(200)] * 4
    assert p50(kept.get(key("shared"))) is not None
    assert kept.info().entries == {"block": 801}
    assert os.listdir(folder) == [history.FILE_NAME]
    assert caplog.text == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on(folder: Path) -> None:
    kept = History(folder)
    kept.put(key("parent"), cost(1.0))
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with kept._memory.lock:
            held.set()
            go_on.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            kept.put(key("child"), cost(2.0))
            code = 0 if p50(kept.get(key("parent"))) == 1.0 else 2
        finally:
            os._exit(code)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert p50(kept.get(key("child"))) == 2.0


def test_an_interrupt_loses_nothing_that_was_put(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = History(folder)
    kept.put(key(1), cost())
    write = history_file.HistoryFile.write

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(history_file.HistoryFile, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.put(key(2), cost())
    assert forget(folder).info().entries == {"block": 1}
    monkeypatch.setattr(history_file.HistoryFile, "write", write)
    kept.put(key(3), cost())  # the same history as before: it still knows the second
    assert forget(folder).info().entries == {"block": 3}
