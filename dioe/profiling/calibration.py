"""What a backend on a device reaches: peaks, bandwidths, and what ops and runs cost besides.

An op of a backend is taken to cost a launch, and its bytes at the bandwidth of its working set or
its arithmetic at the peak; a run costs its ops and a dispatch. Each of these is found from models
whose work is known (``calibration_models``):

* the peak of a precision from a chain of large products, of the size that is fastest;
* launch and dispatch from two chains of products of next to no work: slope and intercept;
* bandwidths from chains of sums of two tensors (bytes: both operands and the result), less what a
  chain as long of tiny sums takes.

Subjects are timed by the protocol of :mod:`dioe.profiling.rounds`: rounds of one executable each,
in alternating order, medians of medians, rounds beside other processes taken again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from dioe.profiling.calibration_models import (
    CHECKED_ROWS,
    Form,
    Work,
    forget,
    launches,
    products,
    sums,
)
from dioe.profiling.calls import waiting_call
from dioe.profiling.copies import CopyCosts, time_copies
from dioe.profiling.rounds import Calls, Contender, Timing, time_round
from dioe.types import (
    Array,
    Buffer,
    Context,
    DioeError,
    Executable,
    HostBuffer,
    Precision,
    Precisions,
    Request,
    TensorSpec,
    UnsupportedError,
    Value,
)

log = logging.getLogger(__name__)

ROUNDS = 5
"""Quiet rounds of each executable, if the time is enough."""

SIZES = (256, 512, 1024, 2048, 4096)
"""Of matrices: products of the next size are tried while they take no longer than is allowed."""

LONGEST_S = 0.15
"""What a run of products may take."""

SHORT, LONG = 2, 130
"""Lengths of the chains of launches."""

SMALLEST_SET = 64 << 10
LARGEST_SET = 256 << 20
"""Working sets are the smallest times powers of 4, and the largest; it is this one where the size
of the last cache isn't known."""

BEYOND_CACHE = 3
"""How many times larger than the last cache a working set has to be to be memory's."""

MEMORY_PART = 8
"""Of a device's memory, the largest working set takes no more than one in so many."""

FEW_SUMS, MANY_SUMS, MANY_UP_TO = 4, 64, 1 << 20
"""Sums in a chain: many where each takes microseconds, few where it takes milliseconds."""

LEAST_PART = 0.2
"""Of what a sum takes, its bytes have to be at least so much for a bandwidth to be told."""

_TINY_SET = 768
_ROUND_S = (0.02, 0.1)

_ERRORS = {
    Precision.FP32: (0.0, 1e-4),
    Precision.BF16: (3e-4, 5e-2),
    Precision.FP16: (2e-5, 2e-2),
    Precision.INT8: (1e-3, 0.2),
}
"""Relative errors (L2) that products have in a precision: one that is smaller was computed in a
higher one. A rounding to bf16 errs by 2^-9 at most, to fp16 by 2^-12; 8 bits over 8 standard
deviations by 0.9 % on average."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend on a device, to be measured.

    ``open`` gives a context, on the resources it is usually given, or without idle threads that
    spin where it is called with False. ``computes`` are precisions that the backend says it has;
    ``executes`` is False where outputs are worth nothing (modelled devices). ``cache_bytes`` is the
    size of the device's last cache, ``memory_bytes`` of its memory, where they are known. ``fuses``
    says that a compiler makes one kernel of sums whatever lies between them, and takes long over
    it: then bandwidths are those of single ones.
    """

    name: str
    open: Callable[[bool | None], AbstractContextManager[Context]]
    computes: frozenset[Precision] = frozenset({Precision.FP32})
    executes: bool = True
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    fuses: bool = False

    @property
    def usual(self) -> Precision:
        """The precision in which whatever doesn't depend on it is measured."""
        computes = sorted(self.computes, key=list(Precision).index)
        return Precision.FP32 if Precision.FP32 in computes else computes[0]


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure that was found: its value, the rounds it is the median of, whether all were noisy,
    and what else is to be known."""

    value: float
    rounds: int
    noisy: bool = False
    note: str = ""


@dataclass(slots=True)
class Findings:
    """What was found of one subject.

    ``peaks`` in operations per second, ``bandwidths`` in bytes per second by working set in bytes,
    of which ``largest_set`` is the memory's own (0 if none was looked at), ``launch`` and
    ``dispatch`` in seconds. ``copies`` into its memory, None where that is the host's. ``problems``
    are the reasons of what isn't there, by what it is.
    """

    peaks: dict[Precision, Reading] = field(default_factory=dict)
    bandwidths: dict[int, Reading] = field(default_factory=dict)
    largest_set: int = 0
    launch: Reading | None = None
    dispatch: Reading | None = None
    copies: CopyCosts | None = None
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def memory_bandwidth(self) -> Reading | None:
        """That of the working set which no cache holds; None where that one wasn't timed."""
        return self.bandwidths.get(self.largest_set)


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """One model on one subject: a contender that is compiled for each of its rounds."""

    subject: Subject
    what: str
    work: Work
    precision: Precision

    @property
    def name(self) -> str:
        """Its name in timings."""
        return f"{self.subject.name} {self.what}"

    @contextlib.contextmanager
    def open(self) -> Iterator[Calls]:
        """Compile, bind buffers of the device's own memory, and hand out the call."""
        with self.request() as (_, request):
            yield {self.name: waiting_call(request)}

    @contextlib.contextmanager
    def request(self) -> Iterator[tuple[Context, Request]]:
        """A bound request, and the context that it is of."""
        with self.subject.open(None) as context:
            executable = context.compile(self.work.model, Precisions(self.precision), {})
            try:
                yield context, bound(context, executable, self.work.feeds)
            finally:
                executable.close()


def bound(context: Context, executable: Executable, feeds: Mapping[str, Array]) -> Request:
    """A request on buffers of the context, inputs filled: no run copies anything."""
    inputs = {name: placed(context, name, array) for name, array in feeds.items()}
    outputs = {spec.name: room(context, spec) for spec in executable.outputs}
    request = executable.request()
    request.bind(inputs, outputs)
    return request


def placed(context: Context, name: str, array: Array) -> Value:
    """The array in memory of the context."""
    buffer = context.alloc(TensorSpec(name, array.dtype, array.shape))
    context.copy(HostBuffer(array), buffer).wait()
    return _plain(buffer)


def room(context: Context, spec: TensorSpec) -> Value:
    """Memory of the context, contents undefined."""
    return _plain(context.alloc(spec))


def _plain(buffer: Buffer) -> Value:
    return buffer.array if isinstance(buffer, HostBuffer) else buffer


def measure(
    subjects: Sequence[Subject],
    *,
    seconds: float,
    locked: bool = True,
    say: Say = lambda text: None,
) -> dict[str, Findings]:
    """What each subject reaches, by its name, within about so many seconds.

    First every subject is looked at, to find the products it is fastest at; then all are timed in
    rounds. One that fails has its reason among its problems, and hurts no other.
    """
    try:
        return _measure(subjects, seconds, locked, say)
    finally:
        forget()


def _measure(
    subjects: Sequence[Subject], seconds: float, locked: bool, say: Say
) -> dict[str, Findings]:
    end = time.perf_counter() + seconds
    found = {subject.name: Findings() for subject in subjects}
    probes: list[Probe] = []
    for subject in subjects:
        mine = found[subject.name]
        for precision in wanted(subject):
            say(f"{subject.name}, looking for the peak of {precision}")
            probe = fastest_products(subject, precision, mine)
            probes += [] if probe is None else [probe]
        probes += overhead_probes(subject)
        with _noting(mine, "copies"), subject.open(None) as context:
            mine.copies = time_copies(context)
    named = {probe.name: probe for probe in probes}
    log.info("looked at %d subjects; %.1f s are left", len(subjects), end - time.perf_counter())
    left_s = max(0.0, end - time.perf_counter())
    timings, failures = rounds_of(named, budget_s=left_s, locked=locked, say=say)
    for name, reason in failures.items():
        found[named[name].subject.name].problems[named[name].what] = reason
    for subject in subjects:
        own = {
            probe.what: (name, probe) for name, probe in named.items() if probe.subject is subject
        }
        times = {what: timings[name] for what, (name, _) in own.items() if name in timings}
        _tell(subject, {what: p for what, (_, p) in own.items()}, times, found[subject.name])
    return found


def wanted(subject: Subject) -> list[Precision]:
    """The precisions whose peaks are looked for: 8 bits as a model may be written in them too."""
    return [p for p in _ERRORS if p in subject.computes or p is Precision.INT8]


@contextlib.contextmanager
def _noting(findings: Findings, what: str) -> Iterator[None]:
    """An error of the backend's becomes one of the problems."""
    try:
        yield
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a backend raises
        _note(findings, what, error)


def _note(findings: Findings, what: str, error: BaseException) -> None:
    reason = error.cause if isinstance(error, DioeError) else f"{type(error).__name__}: {error}"
    level = logging.DEBUG if isinstance(error, DioeError) else logging.INFO
    log.log(level, "measuring %s failed", what, exc_info=error)
    findings.problems.setdefault(what, reason)


# --- peaks ------------------------------------------------------------------------------------


def fastest_products(subject: Subject, precision: Precision, findings: Findings) -> Probe | None:
    """The products that the subject does the most operations of in a second; None, with the reason
    among the problems, where it can't do any in that precision."""
    best: tuple[float, Probe] | None = None
    reasons = Findings()
    for form, asked in _forms(precision, subject):
        for n in SIZES:
            what = f"{precision} products {n} {form}"
            try:
                work = products(n, form)
                probe = Probe(subject, what, work, asked)
                took_s = _look(probe, precision)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
                _note(reasons, f"{form} {n}", error)
                break
            rate = work.flops / took_s
            if best is None or rate > best[0]:
                best = rate, probe
            if took_s * 8 > LONGEST_S:
                break
    if best is None:
        findings.problems[f"{precision} peak"] = "; ".join(dict.fromkeys(reasons.problems.values()))
        return None
    return best[1]


def _forms(precision: Precision, subject: Subject) -> list[tuple[Form, Precision]]:
    """How products may be written to be computed in a precision, and what to compile them for."""
    if precision is not Precision.INT8:
        return [(Form.FLOAT, precision)]
    forms = [(Form.QDQ, subject.usual), (Form.QLINEAR, subject.usual)]
    return forms + [(Form.FLOAT, precision)] * (precision in subject.computes)


def _look(probe: Probe, precision: Precision) -> float:
    """Seconds of a run, after the first; raises UnsupportedError if it isn't the precision's."""
    with probe.request() as (context, request):
        request.run().wait()
        if probe.subject.executes:
            _check(context, request, probe.work, precision)
        times = []
        for _ in range(2):
            start = time.perf_counter()
            request.run().wait()
            times.append(time.perf_counter() - start)
        return max(min(times), 1e-9)


def _check(context: Context, request: Request, work: Work, precision: Precision) -> None:
    """Raise UnsupportedError if the output has not the error that the precision has."""
    assert work.expected is not None
    expected = work.expected()
    output = request.outputs["y"]
    array = output if isinstance(output, np.ndarray) else _fetched(context, output)  # type: ignore[arg-type]
    got = np.asarray(array[:CHECKED_ROWS], np.float64)
    error = float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
    least, most = _ERRORS[precision]
    if not error <= most:
        raise UnsupportedError(f"products in {precision} have an error of {error:.1e}")
    if error < least:
        raise UnsupportedError(f"computed in more than {precision}: an error of {error:.1e} only")


def _fetched(context: Context, buffer: Buffer) -> Array:
    host = np.empty(buffer.shape, buffer.dtype)
    context.copy(buffer, HostBuffer(host)).wait()
    return host


# --- overheads and bandwidths -----------------------------------------------------------------


def overhead_probes(subject: Subject) -> list[Probe]:
    """Chains that tell launch, dispatch and bandwidths."""
    probes = [
        Probe(subject, _launches(length), launches(length), subject.usual)
        for length in (SHORT, LONG)
    ]
    for nbytes in working_sets(subject):
        length = _sums_in(nbytes, subject)
        probes.append(Probe(subject, _sums(nbytes, length), sums(nbytes, length), subject.usual))
    for length in sorted({_sums_in(nbytes, subject) for nbytes in working_sets(subject)}):
        probes.append(
            Probe(subject, _sums(_TINY_SET, length), sums(_TINY_SET, length), subject.usual)
        )
    return probes


def working_sets(subject: Subject) -> list[int]:
    """Bytes of the working sets whose bandwidths are measured, the last one beyond all caches."""
    last = LARGEST_SET
    if subject.cache_bytes is not None:
        last = 1 << (BEYOND_CACHE * max(subject.cache_bytes, SMALLEST_SET) - 1).bit_length()
    if subject.memory_bytes is not None:
        last = min(last, max(SMALLEST_SET, subject.memory_bytes // MEMORY_PART))
    found = [SMALLEST_SET]
    while 4 * found[-1] < last:
        found.append(4 * found[-1])
    found = found if found[-1] == last else [*found, last]
    if subject.fuses:  # of a single small sum nothing is seen beside its dispatch
        return [nbytes for nbytes in found if nbytes >= MANY_UP_TO] or found[-1:]
    return found


def _launches(length: int) -> str:
    return f"{length} launches"


def _sums(nbytes: int, length: int) -> str:
    return f"{length} sums of {nbytes} bytes"


def _sums_in(nbytes: int, subject: Subject) -> int:
    if subject.fuses:
        return 1
    return MANY_SUMS if nbytes <= MANY_UP_TO else FEW_SUMS


def _tell(
    subject: Subject,
    probes: Mapping[str, Probe],
    timings: Mapping[str, Timing],
    findings: Findings,
) -> None:
    """Figures from times."""
    for what, timing in timings.items():
        precision, _, rest = what.partition(" products ")
        if rest:
            form = rest.partition(" ")[2]
            note = "" if form == Form.FLOAT else f"as {form}"
            rate = probes[what].work.flops / _median_s(timing)
            findings.peaks[Precision(precision)] = _reading(rate, [timing], note)
    short, long = timings.get(_launches(SHORT)), timings.get(_launches(LONG))
    if short is not None and long is not None:
        slope_s = max(0.0, (_median_s(long) - _median_s(short)) / (LONG - SHORT))
        findings.launch = _reading(slope_s, [short, long])
        rest_s = max(0.0, _median_s(short) - SHORT * slope_s)
        findings.dispatch = _reading(rest_s, [short, long])
    for nbytes in working_sets(subject):
        findings.largest_set = nbytes
        length = _sums_in(nbytes, subject)
        what = _sums(nbytes, length)
        whole, tiny = timings.get(what), timings.get(_sums(_TINY_SET, length))
        if whole is None or tiny is None:
            continue
        took_s = _median_s(whole)
        moved_s = took_s - _median_s(tiny)
        if moved_s < LEAST_PART * took_s:
            continue  # its launches are all that is seen
        stored = probes[what].work.nbytes * length * _stored(subject.usual)
        findings.bandwidths[nbytes] = _reading(stored / moved_s, [whole, tiny])


def _stored(precision: Precision) -> float:
    """Of a float32's bytes, how many a value takes on a device that has no such type."""
    return {Precision.FP32: 1.0, Precision.INT8: 0.25}.get(precision, 0.5)


def _median_s(timing: Timing) -> float:
    return float(np.median([each.median_ms for each in timing.kept])) / 1e3


def _reading(value: float, timings: Sequence[Timing], note: str = "") -> Reading:
    rounds = min(len(timing.kept) for timing in timings)
    return Reading(value, rounds, any(timing.noisy for timing in timings), note)


def rounds_of(
    contenders: Mapping[str, Contender],
    *,
    budget_s: float,
    locked: bool = True,
    rounds: int = ROUNDS,
    say: Say = lambda text: None,
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Timings by call, and the reasons of contenders that failed, by their names.

    Each contender has one round at least, whatever the budget, and up to so many quiet ones; noisy
    ones are taken again while the budget lasts. Unlike in ``time_in_rounds`` none is compared with
    another, and one that fails is left out.
    """
    end = time.perf_counter() + budget_s
    share_s = budget_s / (rounds * max(1, len(contenders)))
    timings: dict[str, Timing] = {}
    failed = Findings()
    quiet, open_s = dict.fromkeys(contenders, 0), dict.fromkeys(contenders, 0.0)
    order = list(contenders)
    for turn in range(2 * rounds):
        for name in order:
            if turn and time.perf_counter() >= end:
                return timings, failed.problems
            if quiet[name] >= rounds or name in failed.problems:
                continue
            say(name)
            seconds = min(max(share_s - open_s[name], _ROUND_S[0]), _ROUND_S[1])
            with _noting(failed, name):
                taken, open_s[name] = time_round(
                    contenders[name], seconds=seconds, locked=locked, turned=turn % 2 == 1
                )
                for call, done in taken.items():
                    timings.setdefault(call, Timing()).rounds.append(done)
                quiet[name] += not any(done.noisy for done in taken.values())
        order.reverse()
    return timings, failed.problems
