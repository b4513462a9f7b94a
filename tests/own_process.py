"""Modules of tests that need a process of their own: those marked ``own_process``.

What a test does to its process can be for good, as naming torch's PrivateUse1 is. Such a module
says ``pytestmark = pytest.mark.own_process``, and its tests run in a child: a second pytest that
collects the module and is told one test after the other. Its reports are passed on as they are,
so that results, tracebacks, durations, ``-k``, ``-x`` and single tests are what they always are.
A child that dies fails the test that it was running, and the next test gets a new one; one that
ends badly after its last test fails that one.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

CHILD = "TESTS_OWN_PROCESS"
"""Environment variable of a child: the descriptors that it reads and writes, as "3,4"."""

MARKER = "own_process: the module's tests run in a process of their own"
_END_S = 60.0  # for a child to end after its last test

Report = dict[str, Any]


class Child:
    """A pytest that runs the tests of one module when told to."""

    def __init__(self, item: pytest.Item) -> None:
        self.path = item.path
        orders, self._orders = os.pipe()
        incoming, reports = os.pipe()
        self._reports = os.fdopen(incoming, "rb")
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by end()
        environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
        config = ["-c", str(item.config.inipath), "--rootdir", str(item.config.rootpath)]
        # Which tests run is for the parent to say, and so is what the cache remembers.
        parents = ["-m", "", "-p", "no:cacheprovider"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", str(item.path), *config, *parents],
            env=environment | {CHILD: f"{orders},{reports}"},
            cwd=item.config.invocation_params.dir,
            pass_fds=(orders, reports),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        os.close(orders)
        os.close(reports)

    def run(self, item: pytest.Item, follows: str | None) -> Iterator[Report | str]:
        """The reports of one test, and a text in the place of those of a child that died.

        follows: the id of the module's next test, for which its fixtures are kept.
        """
        try:
            os.write(self._orders, json.dumps([item.nodeid, follows]).encode() + b"\n")
        except BrokenPipeError:
            yield self.end()
            return
        try:
            while (report := pickle.load(self._reports)) is not None:
                yield report
        except EOFError:
            yield self.end()

    def end(self, *, at_once: bool = False) -> str:
        """End the process; how that went, or "" where it ended well."""
        if self._reports.closed:
            return ""
        os.close(self._orders)
        if at_once:
            self.process.kill()
        try:
            code = self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reports.close()
        with self._output:
            self._output.seek(0)
            said = self._output.read()
        if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return ""
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        return f"the process of {self.path.name} ended {how}:\n{said[-8000:]}"


_children: dict[Path, Child] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


def pytest_unconfigure() -> None:
    """End the children of modules that were left early, as by ``-x``."""
    for child in _children.values():
        child.end(at_once=True)
    _children.clear()


def in_child() -> bool:
    """Whether this process is one that runs the tests of a marked module."""
    return CHILD in os.environ


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """In the parent: have a marked test run by the child of its module."""
    if in_child() or item.get_closest_marker("own_process") is None:
        return None
    last = nextitem is None or nextitem.path != item.path
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    child = _children.get(item.path) or _children.setdefault(item.path, Child(item))
    try:
        for data in child.run(item, None if nextitem is None or last else nextitem.nodeid):
            _pass_on(item, data)
            if isinstance(data, str):
                del _children[item.path]
    except pytest.fail.Exception as failure:  # pytest-timeout's
        child.end(at_once=True)
        del _children[item.path]
        _pass_on(item, str(failure))
    if last and item.path in _children:
        problem = _children.pop(item.path).end()
        if problem:
            _pass_on(item, problem, when="teardown")
    # What earlier tests of the same folder set up here is still there; pytest takes it down with a
    # test of its own only.
    item.session._setupstate.teardown_exact(nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _pass_on(
    item: pytest.Item, data: Report | str, when: Literal["call", "teardown"] = "call"
) -> None:
    """Report what a child reported, or the failure that a text describes."""
    if isinstance(data, str):
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", data, when)
    else:
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    item.ihook.pytest_runtest_logreport(report=report)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """In the child: run the tests that the parent names, one by one."""
    if not in_child():
        return None
    items = {item.nodeid: item for item in session.items}
    orders, reports = map(int, os.environ[CHILD].split(","))
    with os.fdopen(orders) as told, os.fdopen(reports, "wb", 0) as answers:
        session.config.pluginmanager.register(_Answering(session.config, answers))
        for line in told:
            nodeid, follows = json.loads(line)
            session.config.hook.pytest_runtest_protocol(
                item=items[nodeid], nextitem=items[follows] if follows else None
            )
            pickle.dump(None, answers)
    return True


class _Answering:
    """Sends every report to the parent."""

    def __init__(self, config: pytest.Config, answers: Any) -> None:
        self._config = config
        self._answers = answers

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        pickle.dump(data, self._answers)
