"""The node suite: what it counts, and cases that take their process down."""

from __future__ import annotations

import importlib.metadata
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dioe.testing import node_suite
from dioe.testing.node_suite import Judged, Report, case_names, find_backends, run_suite
from dioe.types import InputError, UnsupportedError

REPORT = Report(
    ("test_a", "test_b", "test_c", "test_d"),
    {
        "reference": {"test_c": "wrong"},
        "one": {"test_a": "refused", "test_c": "crashed", "test_d": "refused"},
        "two": {"test_c": "refused", "test_d": "wrong"},
    },
)


def test_a_case_passes_if_any_backend_passes_it() -> None:
    found = REPORT.to_dict()
    assert list(found) == ["all", "without_reference", "per_backend", "failures"]
    assert found["all"] == {"passed": 3, "failed": 1, "total": 4}
    assert found["without_reference"] == {"passed": 2, "failed": 2, "total": 4}
    assert found["per_backend"] == {
        "reference": {"passed": 3, "failed": 1, "total": 4},
        "one": {"passed": 1, "failed": 3, "total": 4},
        "two": {"passed": 2, "failed": 2, "total": 4},
    }


def test_failures_begin_with_the_cases_that_nobody_passes() -> None:
    entries = [(f["case"], f["backend"], f["reason"]) for f in REPORT.failures()]
    assert entries == [
        ("test_c", "reference", "wrong"),
        ("test_c", "one", "crashed"),
        ("test_c", "two", "refused"),
        ("test_a", "one", "refused"),
        ("test_d", "one", "refused"),
        ("test_d", "two", "wrong"),
    ]


def test_without_any_backend_nothing_passes() -> None:
    alone = Report(("test_a",), {"reference": {}})
    assert alone.to_dict()["all"]["passed"] == 1
    assert alone.to_dict()["without_reference"] == {"passed": 0, "failed": 1, "total": 1}


def test_cases_by_pattern() -> None:
    every = case_names()
    assert len(every) > 1500
    assert case_names(["test_abs"]) == ("test_abs",)
    some = case_names(["test_sub*", "test_abs"])
    assert {"test_abs", "test_sub", "test_sub_bcast"} <= set(some) < set(every)
    with pytest.raises(InputError, match="'test_nothing"):
        case_names(["test_abs", "test_nothing*"])


HANDLER = """
import ctypes, os, time

def create(args):
    if args["backend"] == "broken":
        raise ImportError("no driver")
    return Handler(args["folder"])

class Handler:
    def __init__(self, folder):
        self.before = 0

    def handle(self, op, args, memory):
        assert op == "judge"
        case, self.before = args["case"], self.before + 1
        if case == "crash":
            ctypes.string_at(0)
        if case == "exit":
            os._exit(3)
        if case == "hang":
            ctypes.PyDLL(None).sleep(60)
        if case == "leave":
            raise SystemExit("enough")
        return {"reason": f"case {self.before} here" if case == "count" else ""}

    def close(self):
        pass
"""


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that know neither onnx nor a backend, and start at once."""
    path = tmp_path / "handler.py"
    path.write_text(HANDLER)
    monkeypatch.setattr(node_suite, "HANDLER", str(path))


TOY = Judged("toy", "nobody:asks")


@pytest.mark.usefixtures("handler")
def test_a_case_that_ends_or_hangs_costs_nothing_but_itself() -> None:
    cases = ["test_fine", "test_crash", "test_count", "test_hang", "test_exit", "test_good"]
    begun = time.monotonic()
    report = run_suite([TOY], cases, limit_s=1.0)
    assert time.monotonic() - begun < 30
    assert report.reasons["toy"] == {
        "test_crash": "the process was killed by SIGSEGV",
        "test_count": "case 1 here",  # in a new process
        "test_hang": "took more than 1 s",
        "test_exit": "the process ended itself with exit code 3",
    }
    assert report.counts("toy") == {"passed": 2, "failed": 4, "total": 6}


@pytest.mark.usefixtures("handler")
def test_what_a_case_raises_is_its_reason() -> None:
    (reason,) = run_suite([TOY], ["test_leave", "test_fine"]).reasons["toy"].values()
    assert "SystemExit" in reason
    assert "enough" in reason


@pytest.mark.usefixtures("handler")
def test_a_backend_without_a_process_fails_every_case() -> None:
    report = run_suite([Judged("broken", "x:y"), TOY], ["test_fine", "test_good"])
    assert list(report.reasons) == ["broken", "toy"]
    assert not report.reasons["toy"]
    assert list(report.reasons["broken"]) == ["test_fine", "test_good"]
    for reason in report.reasons["broken"].values():
        assert "no process to run it in" in reason
        assert "no driver" in reason


@pytest.mark.usefixtures("handler")
@pytest.mark.parametrize("jobs", [1, 3, 8])
def test_cases_are_shared_among_workers(jobs: int) -> None:
    cases = [f"test_{i}" for i in range(6)] + ["test_crash"]
    told: list[tuple[str, int, int]] = []
    backends = [TOY, Judged("other", "nobody:asks")]
    report = run_suite(backends, cases, jobs=jobs, progress=lambda *what: told.append(what))
    assert report.cases == tuple(cases)
    assert {name: list(failed) for name, failed in report.reasons.items()} == {
        "toy": ["test_crash"],
        "other": ["test_crash"],
    }
    assert [done for _, done, _ in told] == list(range(1, 15))
    assert {total for _, _, total in told} == {14}
    assert {name for name, _, _ in told} == {"toy", "other"}


@pytest.mark.usefixtures("handler")
def test_an_interrupt_ends_it() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite([TOY], ["test_fine", *(f"test_{i}" for i in range(999))], progress=interrupt)


PLUGIN = """
import ctypes
from dioe.types import Support
from tests.toys.backend import ToyBackend

class Moody(ToyBackend):
    def query(self, model, device, precision):
        kind = next(iter(model.ir.graph)).op_type
        if kind == "Abs":
            ctypes.string_at(0)
        if kind == "Floor":
            return Support(frozenset(), dict.fromkeys(model.op_ids, "not on Sundays"))
        return super().query(model, device, precision)

def backends():
    return [Moody("moody"), ToyBackend("unreal", simulated=True)]
"""


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> importlib.metadata.EntryPoint:
    """A plugin of two backends as a module on the path; one is simulated."""
    name = f"moody_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("DIOE_PLUGIN_TRIAL", "never")
    return importlib.metadata.EntryPoint("moody", f"{name}:backends", "dioe.backends")


def test_backends_that_execute_are_found(point: importlib.metadata.EntryPoint) -> None:
    broken = importlib.metadata.EntryPoint("gone", "no_such_module:backends", "dioe.backends")
    points = [point, broken]
    expected = [Judged("moody", point.value, "cpu")]
    assert find_backends(points, [], "cpu") == expected
    assert find_backends(points, ["moody", "moody"], "cpu") == expected
    for name, why in (("unreal", "simulated"), ("gone", "no_such_module"), ("else", "there is no")):
        with pytest.raises(UnsupportedError, match=why) as caught:
            find_backends(points, [name], "cpu")
        assert "moody" in caught.value.fix
    with pytest.raises(UnsupportedError, match="no device 'npu:0', but cpu"):
        find_backends(points, ["moody"], "npu:0")
    with pytest.raises(UnsupportedError, match="no backend executes on 'npu:0'"):
        find_backends(points, [], "npu:0")


def test_cases_are_judged_in_a_real_worker(point: importlib.metadata.EntryPoint) -> None:
    cases = ["test_abs", "test_floor", "test_ceil", "test_bernoulli"]
    report = run_suite(find_backends([point], [], "cpu"), cases)
    assert report.reasons == {
        "moody": {
            "test_abs": "the process was killed by SIGSEGV",
            "test_floor": "refused 1 of 1 ops: y: not on Sundays",
        }
    }
