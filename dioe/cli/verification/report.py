"""All that was found out about a device as one object, and the verdict on it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dioe.cli.verification import kit
from dioe.cli.verification.graphs import check_graphs
from dioe.cli.verification.subjects import Subject
from dioe.cli.verification.timings import check_timings, cpu_place
from dioe.cli.verification.transfers import check_transfers
from dioe.cli.verification.work import Place, models
from dioe.hardware import Pool, machine
from dioe.profiling import measuring
from dioe.registry import Registry
from dioe.types import Backend, InputError

FORMAT, VERSION = "dioe-verification", 1

CHECKS = ("correctness", "transfers", "graphs", "timings")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Checks:
    """What is asked: some of ``CHECKS``, and of the kit all sections or only some."""

    names: tuple[str, ...] = CHECKS
    sections: tuple[str, ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Checks:
        """``["transfers", "correctness.nodes"]``; all where there is none. Raises InputError."""
        names, sections = [], []
        for text in texts:
            name, dot, section = text.partition(".")
            if name not in CHECKS or (dot and name != "correctness"):
                raise InputError(
                    f"there is no check {text!r}",
                    place="--check",
                    fix=f"one of {', '.join(CHECKS)}, or correctness.SECTION of the kit",
                )
            names.append(name)
            sections += [section] if dot else []
        whole = "correctness" in texts
        return cls(
            tuple(name for name in CHECKS if name in (names or CHECKS)),
            () if whole else tuple(dict.fromkeys(sections)),
        )

    def check_kit(self) -> None:
        """Raise UnsupportedError where pytest is needed and missing, InputError for a section that
        the kit hasn't."""
        if "correctness" in self.names:
            kit.check_pytest()
            kit.check_sections(self.sections)


def verify(
    registry: Registry,
    pool: Pool,
    subject: Subject,
    checks: Checks,
    *,
    timeout_s: float,
    progress: Progress = lambda text: None,
) -> dict[str, Any]:
    """The report: docs/cli.md has its fields."""
    with measuring() as locked:
        backends = {
            backend.name: _Examination(registry, subject, backend, own, locked, progress).report(
                checks, timeout_s
            )
            for backend, own in subject.backends
        }
    return {
        "format": FORMAT,
        "version": VERSION,
        "dioe": importlib.metadata.version("dioe"),
        "device": asdict(subject.device),
        "machine": machine(pool),
        "checks": [*checks.names, *(f"correctness.{section}" for section in checks.sections)],
        "backends": backends,
        "verdict": verdict(backends),
    }


@dataclass(frozen=True, slots=True)
class _Examination:
    """One backend on the device."""

    registry: Registry
    subject: Subject
    backend: Backend
    own: str
    locked: bool
    progress: Progress

    def report(self, checks: Checks, timeout_s: float) -> dict[str, Any]:
        can = asdict(self.backend.capabilities(self.own))
        found: dict[str, Any] = {
            "version": self.backend.version,
            "device": self.own,
            "known_as": str(self.subject.device.known_as),
            "capabilities": {
                key: sorted(value) if isinstance(value, frozenset) else value
                for key, value in can.items()
            },
        }
        if "correctness" in checks.names:
            self._say("conformance kit")
            found["correctness"] = kit.run_kit(
                self.backend.name, self.own, sections=checks.sections, timeout_s=timeout_s,
                progress=lambda text: self._say(f"conformance kit, {text}"),
            )  # fmt: skip
        for name, check in self._measured().items():
            if name in checks.names:
                self._say(name)
                try:
                    found[name] = check()
                except Exception as error:  # noqa: BLE001 - what a backend raises is a finding
                    text = " ".join(str(error).split())
                    found[name] = {"state": "failed", "reason": f"{type(error).__name__}: {text}"}
        return found

    def _measured(self) -> dict[str, Callable[[], dict[str, Any]]]:
        return {"transfers": self._transfers, "graphs": self._graphs, "timings": self._timings}

    def _say(self, text: str) -> None:
        self.progress(f"{self.backend.name}: {text}")

    @property
    def _place(self) -> Place:
        return Place(self.backend, self.own)

    def _transfers(self) -> dict[str, Any]:
        with self._place.opened() as context:
            copies = check_transfers(context, judged=not self.backend.simulated)
        return self._labelled("copies", copies)

    def _graphs(self) -> dict[str, Any]:
        if not self.backend.capabilities(self.own).graph_capture:
            return {"state": "not offered", "reason": "the backend captures no graphs here"}
        found = check_graphs(
            self._place, self.subject.device.known_as, models(), locked=self.locked,
            progress=lambda text: self._say(f"graphs, {text}"),
        )  # fmt: skip
        return self._labelled("models", found)

    def _timings(self) -> dict[str, Any]:
        found = check_timings(
            self._place, self.subject.device.known_as, cpu_place(self.registry), models(),
            locked=self.locked, progress=lambda text: self._say(f"timings, {text}"),
        )  # fmt: skip
        return self._labelled("models", found)

    def _labelled(self, name: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        """Entries with how their times are known, and whether all of them are as they should be."""
        known_as = str(self.subject.device.known_as)
        state = "failed" if any(_wrong(entry) for entry in entries) else "passed"
        return {"state": state, "reason": "", "known_as": known_as, name: entries}


def _wrong(entry: Mapping[str, Any]) -> str:
    """What is wrong with a copy or a model; empty if nothing is."""
    if entry.get("reason"):
        return str(entry["reason"])
    if entry.get("equal") is False:
        return "other bytes came out than went in"
    for key in ("relative_l2", "rebound_relative_l2"):
        error = entry.get(key)
        if error is not None and not error <= entry["limit"]:
            return f"{key} is {error:.3g}, at most {entry['limit']:.3g} is allowed"
    return ""


def verdict(backends: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``ok``, and a sentence for each thing that is wrong."""
    problems = []
    for name, found in backends.items():
        for check in CHECKS:
            part = found.get(check)
            if part is None or part["state"] in ("passed", "not offered"):
                continue
            failures = part.get("failures", [])
            reasons = [f"{each['test']}: {each['reason']}" for each in failures]
            for entry in part.get("copies", part.get("models", [])):
                if wrong := _wrong(entry):
                    what = entry.get("model") or f"{entry['nbytes']} bytes, {entry['way']}"
                    reasons.append(f"{what}: {wrong}")
            reasons = reasons or [part["reason"] or "failed"]
            problems += [f"{name}: {check} {part['state']}: {reason}" for reason in reasons]
    return {"ok": not problems, "problems": problems}
