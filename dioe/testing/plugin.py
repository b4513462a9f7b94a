"""The suite's pytest plugin: options, the known failures, what counts as covered, the summary."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Generator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from dioe.registry import Registry
from dioe.registry.discovery import WORKER_ENTRY_POINT_GROUP
from dioe.registry.reports import one_line
from dioe.testing import known_failures
from dioe.testing.installed import plugin_points
from dioe.testing.subject import NotCovered
from dioe.types import (
    Backend,
    DeviceState,
    DioeError,
    Precision,
    UnsupportedError,
)

_FOLDER = Path(__file__).parent / "conformance"
SECTIONS = tuple(sorted(path.stem.removeprefix("test_") for path in _FOLDER.glob("test_*.py")))
"""Each module of the suite is a section."""

_TEST, _NOT_COVERED = "dioe_test", "dioe_not_covered"  # properties of reports
_OUTCOMES = ("covered", "not covered", "failed", "known failures")
_CATEGORIES = {"passed": "covered", "error": "failed"}
"""Outcomes by pytest's name for them, where that is another."""


class Selection:
    """What a run of the suite is about: backend, device, precisions, known failures."""

    def __init__(self, config: pytest.Config) -> None:
        name, served = config.getoption("--backend"), bool(config.getoption("--worker"))
        self.backend, self.entry_point = _find(name, served=served)
        self.device = _device(self.backend, config.getoption("--device"))
        computes = self.backend.capabilities(self.device).computes
        self.precisions = tuple(p for p in Precision if p in computes)
        wanted = config.getoption("--precision")
        _check_precisions(wanted or (), self.precisions, self.backend.name)
        self.chosen = tuple(p for p in self.precisions if not wanted or p in wanted)
        self.all_nodes = bool(config.getoption("--all-nodes"))
        self.possible: set[str] = set()
        """Ids of tests that exist, whether or not the options select them."""
        self.known, self.known_file = _known(config, self.entry_point, self.backend.name)


SELECTION = pytest.StashKey[Selection]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's options."""
    group = parser.getgroup("dioe", "conformance of a DIOE backend")
    add = group.addoption
    add("--backend", metavar="NAME", help="the backend to test, as `dioe devices` names it")
    add("--device", metavar="ID", help="its device (default: the first that is present)")
    add(
        "--precision",
        action="append",
        type=Precision,
        metavar="P",
        help="only this precision, may be repeated (default: all that the backend computes)",
    )
    add("--worker", action="store_true", help="serve the backend by a worker process")
    add("--all-nodes", action="store_true", help="all node cases of ONNX, not only the subset")
    add(
        "--known-failures",
        metavar="FILE",
        help="tests that fail, and why (default: known_failures.txt in the plugin's package)",
    )
    add("--report", metavar="FILE", help="write the counts and the failures there, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Find the backend; a run without one is a usage error."""
    config.addinivalue_line(
        "markers", "correctness: judges values, which a simulated backend doesn't compute"
    )
    if config.getoption("--help") or config.getoption("--version"):
        return
    try:
        config.stash[SELECTION] = Selection(config)
    except DioeError as error:
        raise pytest.UsageError(str(error)) from error


def _find(name: str | None, *, served: bool) -> tuple[Backend, str]:
    """The installed backend of that name, and the entry point of its plugin.

    ``served``: by a worker process, whether or not its plugin asks for one.
    """
    points = plugin_points()
    if served:
        points = [EntryPoint(p.name, p.value, WORKER_ENTRY_POINT_GROUP) for p in points]
    if not name:
        installed = ", ".join(point.name for point in points) or "none"
        raise UnsupportedError("--backend NAME is missing", fix=f"installed plugins: {installed}")
    # The plugin that is likely the one first: the others needn't be loaded then.
    points.sort(key=lambda point: point.name not in (name, name.partition(".")[0]))
    reasons = []
    for point in points:
        registry = Registry([point])
        for status in registry.statuses:
            if status.name == name:
                return registry.backend(name), point.value
            if point.name == name:
                reasons.append(status.reason)
    raise UnsupportedError(
        f"no installed plugin provides a backend {name!r}" + "".join(f": {r}" for r in reasons),
        fix="`dioe devices` lists what is installed, and why something isn't usable",
    )


def _device(backend: Backend, wanted: str | None) -> str:
    devices = backend.probe()
    for device in devices:
        if device.state is DeviceState.PRESENT and wanted in (None, device.id):
            return device.id
    seen = ", ".join(f"{d.id} ({d.state})" for d in devices) or "none"
    raise UnsupportedError(
        f"backend {backend.name!r} has no device {wanted or 'that is present'}",
        fix=f"devices it sees: {seen}",
    )


def _check_precisions(
    wanted: Sequence[Precision], computed: Sequence[Precision], backend: str
) -> None:
    """Raise UnsupportedError for a precision that was asked for and isn't computed: a run without
    any test of it would pass."""
    for precision in wanted:
        if precision not in computed:
            raise UnsupportedError(
                f"backend {backend!r} doesn't compute in {precision}",
                place="--precision",
                fix=f"its capabilities name: {', '.join(computed) or 'none'}",
            )


def _known(config: pytest.Config, entry_point: str, backend: str) -> tuple[dict[str, str], str]:
    given = config.getoption("--known-failures")
    if given:
        try:
            return known_failures.parse(Path(given).read_text(encoding="utf-8"), given), given
        except OSError as error:
            raise pytest.UsageError(f"--known-failures: {error}") from error
    file = known_failures.shipped(entry_point, backend)
    if file is None:
        return {}, "known failures"
    return known_failures.parse(file.read_text(encoding="utf-8"), str(file)), str(file)


def _id(item: pytest.Item) -> str | None:
    """The id of a test in lists of known failures; None for tests that aren't of the suite."""
    if item.path.parent != _FOLDER:
        return None
    return f"{item.path.stem.removeprefix('test_')}::{item.name}"


def _property(report: Any, name: str) -> str:
    """What a report says under a name of ours; empty where it says nothing."""
    return str(dict(getattr(report, "user_properties", ())).get(name, ""))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse listed tests that don't exist; leave out what a simulated backend can't meet."""
    selection = config.stash[SELECTION]
    found = set()
    for item in items:
        if test := _id(item):
            found.add(test)
            item.user_properties.append((_TEST, test))
    _check_list(selection, found, whole=not any("::" in str(arg) for arg in config.args))
    if selection.backend.simulated:
        kept = [i for i in items if not (_id(i) and i.get_closest_marker("correctness"))]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def _check_list(selection: Selection, found: set[str], *, whole: bool) -> None:
    """Raise UsageError for listed tests that are none; by node id only some are collected."""
    collected = {test.partition("::")[0] for test in found}
    for test in selection.known:
        kind = test.partition("::")[0]
        judged = kind not in SECTIONS or (whole and kind in collected)
        if judged and test not in found | selection.possible:
            close = difflib.get_close_matches(test, found | selection.possible, 1, cutoff=0.7)
            raise pytest.UsageError(
                f"{selection.known_file}: there is no test {test}; take it off the list"
                f"{f' (did you mean {close[0]}?)' if close else ''}"
            )


class _Crash(Exception):
    """Stands for what would have happened to the whole run."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Don't run what is known to take the process down."""
    reason = item.config.stash[SELECTION].known.get(_id(item) or "", "")
    if reason.startswith(known_failures.CRASHES):
        raise _Crash(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell what isn't covered from what is skipped, and hold the run against the list."""
    report = yield
    test = _id(item)
    if test is None:
        return report
    if call.excinfo is not None and isinstance(call.excinfo.value, NotCovered):
        why = str(call.excinfo.value)
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"not covered: {why}")
        report.user_properties.append((_NOT_COVERED, why))
    selection = item.config.stash[SELECTION]
    reason = selection.known.get(test)
    if reason is not None and call.when != "teardown":
        if report.failed:
            report.outcome = "skipped"
            report.wasxfail = reason
        elif call.when == "call" or report.skipped:
            now = "isn't covered" if report.skipped else "passes"
            report.outcome = "failed"
            report.longrepr = (
                f"{test} {now}, but {selection.known_file} lists it as failing ({reason}): "
                "take it off the list"
            )
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """Categories of their own for what isn't covered and for known failures."""
    if report.skipped and _property(report, _TEST):
        if hasattr(report, "wasxfail"):
            return "known failures", "k", "KNOWN FAILURE"
        if _property(report, _NOT_COVERED):
            return "not covered", "n", "NOT COVERED"
    return None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is tested."""
    selection = config.stash.get(SELECTION, None)
    if selection is None:
        return []
    backend = selection.backend
    simulated = ", simulated: no values are judged" if backend.simulated else ""
    return [
        f"conformance: {backend.name} {backend.version} on {selection.device}{simulated}; "
        f"precisions {', '.join(selection.chosen) or 'none'}; "
        f"{len(selection.known)} known failures listed"
    ]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Counts for each section; with ``-v`` the reason of everything that isn't covered."""
    selection = config.stash.get(SELECTION, None)
    if selection is None:
        return
    stats: dict[str, list[Any]] = terminalreporter.stats
    counts = _counts(stats)
    file = config.getoption("--report")
    if file:
        Path(file).write_text(json.dumps(_report(selection, counts, stats), indent=2) + "\n")
    write = terminalreporter.write_line
    title = f"conformance of {selection.backend.name} on {selection.device}"
    terminalreporter.section(title)
    if config.get_verbosity() > 0:
        for report in stats.get("not covered", []):
            write(f"not covered: {_property(report, _TEST)}: {_property(report, _NOT_COVERED)}")
    write(f"{'section':<16}" + "".join(f"{outcome:>16}" for outcome in _OUTCOMES))
    for name, count in counts.items():
        if count:
            write(f"{name:<16}" + "".join(f"{count[outcome]:>16}" for outcome in _OUTCOMES))


def _counts(stats: dict[str, list[Any]]) -> dict[str, Counter[str]]:
    """Outcomes by section, and of all."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in (*SECTIONS, "all")}
    for category, reports in stats.items():
        outcome = _CATEGORIES.get(category, category)
        for report in reports:
            test = _property(report, _TEST)
            if test and outcome in _OUTCOMES:
                counts[test.partition("::")[0]][outcome] += 1
                counts["all"][outcome] += 1
    return counts


def _report(
    selection: Selection, counts: dict[str, Counter[str]], stats: dict[str, list[Any]]
) -> dict[str, Any]:
    """What ``--report`` writes: docs/plugins.md has the fields."""
    failed = [report for key in ("failed", "error") for report in stats.get(key, [])]
    return {
        "backend": selection.backend.name,
        "version": selection.backend.version,
        "device": selection.device,
        "precisions": [str(precision) for precision in selection.chosen],
        "sections": {
            name: {outcome.replace(" ", "_"): count[outcome] for outcome in _OUTCOMES}
            for name, count in counts.items()
            if count
        },
        "failures": [
            {"test": _property(report, _TEST) or report.nodeid, "reason": _why(report)}
            for report in failed
        ],
    }


def _why(report: Any) -> str:
    """What a test failed of, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr) if crash is None else str(crash.message)
    return one_line(text)
