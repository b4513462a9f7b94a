"""Correctness: the conformance kit on a backend and a device, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dioe.types import InputError, UnsupportedError

_SUITE = "dioe.testing.conformance"
_PERCENT = re.compile(r"\[ *(\d+)%\]")
_TAIL = 1500
"""Characters of what pytest said last, where it gave no report."""


def check_pytest() -> None:
    """Raise UnsupportedError, with what to install, where the kit can't be run."""
    if importlib.util.find_spec("pytest") is None:
        raise UnsupportedError(
            "the conformance kit needs pytest, which isn't installed",
            place="--check correctness",
            fix="pip install 'dioe[testing]', or ask for other checks: --check transfers",
        )


def kit_sections() -> tuple[str, ...]:
    """The kit's sections, by name; needs pytest."""
    from dioe.testing.plugin import SECTIONS

    return SECTIONS


def check_sections(sections: Sequence[str]) -> None:
    """Raise InputError for a section that the kit hasn't."""
    known = kit_sections()
    for section in sections:
        if section not in known:
            raise InputError(
                f"the kit has no section {section!r}",
                place=f"--check correctness.{section}",
                fix=f"sections: {', '.join(known)}",
            )


def run_kit(
    backend: str,
    device: str,
    *,
    sections: Sequence[str] = (),
    timeout_s: float,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The outcome of the kit, or of some of its sections, on a device as the backend names it.

    ``state`` is ``passed``, ``failed``, ``timed out`` or ``crashed``; ``reason`` says more where
    there is no full report. The rest is what the kit's ``--report`` writes.
    """
    modules = [f"{_SUITE}.test_{section}" for section in sections] or [_SUITE]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dioe-verify-") as folder:
        # an empty configuration: neither the caller's folder nor a checkout's decides anything
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        file = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pytest", "-c", "pytest.ini", "--rootdir", ".", "-q",
            "-p", "no:cacheprovider", "-p", "dioe.testing.plugin", "--pyargs", *modules,
            "--backend", backend, "--device", device, "--report", str(file),
        ]  # fmt: skip
        code, said, late = _watched(command, folder, timeout_s, progress)
        report = json.loads(file.read_text()) if file.is_file() else None
    found: dict[str, Any] = {"state": "passed" if code == 0 else "failed", "reason": ""}
    if report is None:
        found["state"] = "timed out" if late else "crashed"
        ended = f"it was stopped after {timeout_s:g} s" if late else _ending(code)
        found["reason"] = f"{ended}; it said last: {said[-_TAIL:].strip()}"
    else:
        found |= {key: report[key] for key in ("precisions", "sections", "failures")}
        if code and not report["failures"]:
            found["reason"] = f"{_ending(code)}; it said last: {said[-_TAIL:].strip()}"
    return found | {"took_s": round(time.monotonic() - start, 1)}


def _watched(
    command: Sequence[str], folder: str, timeout_s: float, progress: Callable[[str], None]
) -> tuple[int, str, bool]:
    """Exit code, output, and whether it had to be killed."""
    late = threading.Event()
    # plugins of pytest that happen to be installed are no part of the kit
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        said = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if percent := _PERCENT.search(line):
                    progress(f"{percent[1]} %")
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    return code, "".join(said), late.is_set()


def _ending(code: int) -> str:
    if code < 0:
        try:
            return f"the process died of {signal.Signals(-code).name}"
        except ValueError:
            return f"the process died of signal {-code}"
    return f"pytest ended with exit code {code}"
