"""What the cost history knows of one model with bound shapes, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dioe.profiling import BlockTiming, CopyCosts, CostKey, CostRecord, History
from dioe.tuning.targets import Candidate
from dioe.types import OpTime, Resources, Target, TargetReport

_LASTING = ("ok", "infidel", "slow", "unsupported")
"""States that another try would find again. What failed is tried anew."""


_ANY_MODEL = "memory"
"""What stands for a model where a cost is a device's alone."""


def _infidel(before: str, error: float, limit: float) -> str:
    """Why a target errs too much by the present limit; ``before`` is the reason by another one, and
    tells of which output."""
    output, _, _ = before.partition(": ") if before.startswith("output ") else ("", "", "")
    what = f"error {error:.3g} is above the limit {limit:g}"
    return f"{output}: {what}" if output else what


def _timed(resources: Resources) -> Resources:
    """What of the resources a time depends on, where everything fits."""
    return replace(resources, memory_limit_bytes=None)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A target's time relative to that of the best one in the same ``rounds``, named by a token."""

    value: float
    rounds: str


@dataclass(frozen=True, slots=True)
class Known:
    """The costs in ``history`` of one model, for one set of shapes and samples.

    ``samples`` is a digest of the inputs: times and errors depend on them. A noisy cost is kept for
    reports, and is not known: what it tells is measured again. What rests on a ``modelled`` device
    is remembered by this object alone: it was computed, and other descriptors give other times.
    """

    history: History
    model_sha256: str
    shapes: Mapping[str, tuple[int, ...]]
    samples: str
    hardware: str
    versions: Mapping[str, str]
    modelled: frozenset[str] = frozenset()
    passing: History = field(default_factory=lambda: History(None))

    def _key(
        self,
        kind: str,
        targets: Sequence[Target],
        resources: Resources,
        *,
        subject: str | None = None,
        **options: Any,
    ) -> CostKey:
        backends = {target.backend for target in targets}
        return CostKey(
            kind=kind,
            subject=subject or self.model_sha256,
            shapes={} if subject else self.shapes,  # a block's structure hash has its shapes
            target=" -> ".join(map(str, targets)),
            resources=resources,
            options=options,
            versions={n: v for n, v in self.versions.items() if n in backends},
            hardware=self.hardware,
        )

    def _get(self, key: CostKey) -> CostRecord | None:
        record = self._where(key).get(key)
        return None if record is None or record.noisy else record

    def _put(self, key: CostKey, record: CostRecord) -> None:
        self._where(key).put(key, record)

    def _where(self, key: CostKey) -> History:
        parts = key.target.split(" -> ")
        modelled = any(part.partition("/")[0] in self.modelled for part in parts)
        return self.passing if modelled else self.history

    # --- whole targets ------------------------------------------------------------------------

    def _report_key(self, candidate: Candidate) -> CostKey:
        return self._key("target", [candidate.target], candidate.resources, samples=self.samples)

    def report(self, candidate: Candidate, limit: float) -> TargetReport | None:
        """The report on a target as measured before, judged by ``limit``."""
        record = self._lasting(candidate)
        if record is None:
            return None
        extra = record.extra
        state, reason, error = extra["state"], extra["reason"], extra["relative_l2"]
        if error is not None and state in ("ok", "infidel"):
            fidel = error <= limit
            if not fidel:
                reason = _infidel(reason, error, limit)
            elif state == "infidel":
                reason = ""
            state = "ok" if fidel else "infidel"
        return TargetReport(
            str(candidate.target), state, reason, record.p50_ms, record.p90_ms, record.p99_ms,
            record.spread_ms, record.runs, error, record.noisy,
        )  # fmt: skip

    def ratio(self, candidate: Candidate) -> Ratio | None:
        """How the target compared with those that were timed in the same rounds."""
        record = self._lasting(candidate)
        kept = None if record is None else record.extra.get("compared")
        return None if kept is None else Ratio(**kept)

    def took_s(self, candidate: Candidate) -> float:
        """Seconds that a first look at the target took, compiling included; 0 if unknown."""
        record = self._lasting(candidate)
        return 0.0 if record is None else float(record.extra.get("took_s", 0.0))

    def _lasting(self, candidate: Candidate) -> CostRecord | None:
        record = self._get(self._report_key(candidate))
        return record if record is not None and record.extra["state"] in _LASTING else None

    def keep_report(
        self,
        candidate: Candidate,
        report: TargetReport,
        ratio: Ratio | None = None,
        *,
        took_s: float = 0.0,
    ) -> None:
        """Keep what is there to stay of a report, before anything but its error judged it.

        ``took_s`` is what a first look took. A target that has failed is no longer known.
        """
        if report.state not in _LASTING and self._lasting(candidate) is None:
            return
        extra: dict[str, Any] = {
            "state": report.state, "reason": report.reason, "relative_l2": report.relative_l2,
            "took_s": took_s,
        }  # fmt: skip
        if ratio is not None:
            extra["compared"] = asdict(ratio)
        record = CostRecord(
            report.p50_ms, report.p90_ms, report.p99_ms, report.spread_ms, report.runs,
            report.noisy, extra,
        )  # fmt: skip
        self._put(self._report_key(candidate), record)

    # --- parts: what they take doesn't depend on how much memory is allowed -----------------------

    def op_times(self, target: Target, resources: Resources) -> tuple[float, list[OpTime]] | None:
        """The time of a whole model beside other executables, and its per-op times."""
        record = self._get(self._key("ops", [target], _timed(resources), samples=self.samples))
        if record is None or record.p50_ms is None:
            return None
        times = [OpTime(**{**each, "ops": tuple(each["ops"])}) for each in record.extra["times"]]
        return record.p50_ms, times

    def keep_op_times(
        self,
        target: Target,
        resources: Resources,
        whole_ms: float,
        times: Sequence[OpTime],
        *,
        runs: int,
        noisy: bool,
    ) -> None:
        """Keep the time of a whole and of its ops."""
        record = CostRecord(
            whole_ms, runs=runs, noisy=noisy, extra={"times": [asdict(each) for each in times]}
        )
        self._put(self._key("ops", [target], _timed(resources), samples=self.samples), record)

    def block(
        self, structure_hash: str, target: Target, resources: Resources
    ) -> BlockTiming | None:
        """What a block of this structure takes alone, in any model."""
        record = self._get(self._key("block", [target], _timed(resources), subject=structure_hash))
        if record is None or None in (record.p50_ms, record.p90_ms, record.p99_ms):
            return None
        return BlockTiming(
            record.p50_ms or 0.0, record.p90_ms or 0.0, record.p99_ms or 0.0,
            record.spread_ms or 0.0, record.runs, record.noisy,
        )  # fmt: skip

    def keep_block(
        self, structure_hash: str, target: Target, resources: Resources, timing: BlockTiming
    ) -> None:
        """Keep what a block takes alone."""
        record = CostRecord(
            timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.spread_ms, timing.runs, timing.noisy
        )
        self._put(self._key("block", [target], _timed(resources), subject=structure_hash), record)

    def copies(self, target: Target, resources: Resources) -> CopyCosts | None:
        """What copies into the target's memory and out of it cost, whatever the model."""
        record = self._get(self._key("copy", [target], _timed(resources), subject=_ANY_MODEL))
        return None if record is None else CopyCosts(**record.extra)

    def keep_copies(
        self, target: Target, resources: Resources, costs: CopyCosts, *, noisy: bool
    ) -> None:
        """Keep what copies cost."""
        record = CostRecord(noisy=noisy, extra=asdict(costs))
        self._put(self._key("copy", [target], _timed(resources), subject=_ANY_MODEL), record)

    # --- searches -----------------------------------------------------------------------------

    def search(self, targets: Sequence[Target], **goal: Any) -> Mapping[str, Any] | None:
        """What a search for a mixed plan among these targets found, as it was kept."""
        key = self._key("search", targets, Resources(), samples=self.samples, **goal)
        record = self._get(key)
        return None if record is None else record.extra

    def keep_search(
        self, targets: Sequence[Target], found: Mapping[str, Any], *, noisy: bool, **goal: Any
    ) -> None:
        """Keep what a search found, as JSON values."""
        key = self._key("search", targets, Resources(), samples=self.samples, **goal)
        self._put(key, CostRecord(noisy=noisy, extra=found))
