"""What ops cost where nobody measured them: a roofline, as far from it as others of their class.

A kernel (:func:`dioe.graph.find_kernels`) takes at least as long as its arithmetic at the rate that
the device reaches in a precision, and as its memory traffic at the bandwidth of its working set (S.
Williams, A. Waterman, D. Patterson: Roofline, CACM 52(4), 2009). How many times as long it takes is
its class's factor, learned from measured ops of the class (:mod:`dioe.profiling.factors`); every
kernel takes a launch besides, and a run a dispatch. What ops that are fused into others still cost
is a class of its own: nearly nothing with a compiler, all of it in eager mode.

Rates and factors are the figures of a device of a pool (:mod:`dioe.hardware.reached`): measured by
``dioe calibrate``, or those of a descriptor. Every cost says what it rests on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dioe.flops import VALUE_BITS
from dioe.graph import Block, Kernel
from dioe.hardware import DeviceSpec
from dioe.hardware.figures import Arithmetic
from dioe.hardware.reached import compute_rate, dispatch_s, launch_s, memory_rate
from dioe.types import Precision, UnsupportedError

FUSED, LAUNCH = "fused", "launch"
"""The classes of what ops fused into others cost, and of what every kernel costs besides its work:
threads that start and wait for each other, which the tiny ops that launches are measured with don't
need."""

ASSUMED_LAUNCH_S = 1e-6
"""Where no figure says."""

ASSUMED_FACTOR = 1.5
"""Of a class that nothing was learned about, where the rates were measured: assumed. What benchmark
models teach of one x86 CPU is more, about 2 by the median of all classes. Rates that weren't
measured have the share that is reached in them."""


class Bound(enum.StrEnum):
    """What the time of a kernel goes into."""

    COMPUTE = "compute"
    MEMORY = "memory"
    OVERHEAD = "overhead"  # launches


@dataclass(frozen=True, slots=True)
class Parts:
    """A kernel by the roofline alone, in ms: its main op, what was fused into it by itself, and the
    launch."""

    main_ms: float
    fused_ms: float
    launch_ms: float
    bound: Bound


@dataclass(frozen=True, slots=True)
class KernelTime:
    """The predicted time of one kernel, in ms, what it goes into and what it rests on."""

    kernel: Kernel
    ms: float
    bound: Bound
    basis: str


class Roofline:
    """Predicted times on one device of a pool, in one precision, through one backend.

    ``backend`` picks what was measured through it; ``mode`` is a power mode of the device. Raises
    UnsupportedError where the device's figures have no peak in the precision, or no bandwidth.
    """

    def __init__(
        self, device: DeviceSpec, precision: Precision, *, backend: str = "", mode: str = ""
    ) -> None:
        self.device, self.precision, self.backend = device, precision, backend
        rate = compute_rate(device, precision, backend=backend, mode=mode)
        memory = memory_rate(device, backend=backend)
        missing = [
            what
            for what, found in ((f"peak in {precision}", rate), ("memory bandwidth", memory))
            if found is None
        ]
        if rate is None or memory is None:
            raise UnsupportedError(
                f"the figures of {device.id} have no {' and no '.join(missing)}"
                + (f" in power mode {mode}" if mode else ""),
                place="roofline",
                fix="name a descriptor in the pool (device: …), or run `dioe calibrate`",
            )
        self._rates = {precision: rate.per_s}
        for written in Precision:
            found = compute_rate(device, written, backend=backend, mode=mode)
            if found is not None:
                self._rates[written] = found.per_s
        launch = launch_s(device, backend)
        self._launch_ms = (ASSUMED_LAUNCH_S if launch is None else launch) * 1e3
        self.dispatch_ms = (dispatch_s(device, backend) or 0.0) * 1e3
        self._measured = rate.measured and memory.measured
        self._factors, self._learned_in = _factors(device, precision, backend)
        in_mode = f" in mode {mode}" if mode else ""
        self._basis = f"peak {rate.basis}{in_mode}, bandwidth {memory.basis}"
        if launch is None:
            self._basis += f", launch of {ASSUMED_LAUNCH_S * 1e6:g} µs assumed"

    def parts(self, kernel: Kernel) -> Parts:
        """A kernel's roofline, without the factor of its class."""
        compute_ms = kernel.flops / self._rate(kernel) * 1e3
        bits = VALUE_BITS.get(self.precision, 32)
        nbytes = kernel.nbytes - kernel.float_bytes * (32 - bits) / 32
        memory_ms = self._memory_ms(nbytes)
        fused_ms = self._memory_ms(kernel.fused_bytes * bits / 32)
        bound = Bound.COMPUTE if compute_ms > memory_ms else Bound.MEMORY
        return Parts(
            max(compute_ms, memory_ms), fused_ms + kernel.fused * self._launch_ms,
            self._launch_ms, bound,
        )  # fmt: skip

    def of(self, kernel: Kernel) -> KernelTime:
        """The predicted time of a kernel."""
        parts = self.parts(kernel)
        factor, learned = self._factor(kernel.op_class)
        main_ms = factor * parts.main_ms
        launch_ms = self._own_factor(LAUNCH) * parts.launch_ms
        ms = main_ms + self._own_factor(FUSED) * parts.fused_ms + launch_ms
        bound = parts.bound if main_ms > launch_ms else Bound.OVERHEAD
        return KernelTime(kernel, ms, bound, f"{self._basis}; {learned}")

    def run_ms(self, kernels: Iterable[Kernel]) -> float:
        """The predicted time of a run of all these kernels, one after the other."""
        return sum(self.of(kernel).ms for kernel in kernels) + self.dispatch_ms

    def block_ms(self, kernels: Iterable[Kernel], blocks: Iterable[Block]) -> dict[str, float]:
        """The predicted times of blocks, by id: a kernel is that of the block with its main op."""
        block_of = {}
        found = {}
        for block in blocks:
            found[block.id] = 0.0
            block_of.update(dict.fromkeys(block.ops, block.id))
        for kernel in kernels:
            if kernel.main in block_of:
                found[block_of[kernel.main]] += self.of(kernel).ms
        return found

    @property
    def basis(self) -> str:
        """What the predictions rest on, in words."""
        # every kernel counts for its launch and for what is fused into it as well
        ops = sum(n for name, (_, n) in self._factors.items() if name not in (FUSED, LAUNCH))
        learned = f"factors learned from {ops} ops in {self._learned_in}"
        return f"{self._basis}; {learned if ops else self._unlearned}"

    def assumed(self, op_class: str) -> float:
        """The factor of a class where nothing was learned of it, nor of its family."""
        own = {FUSED: 0.0, LAUNCH: 1.0}
        return own.get(op_class, ASSUMED_FACTOR if self._measured else 1.0)

    @property
    def _unlearned(self) -> str:
        return f"factor {ASSUMED_FACTOR:g} assumed" if self._measured else "no factors"

    def _rate(self, kernel: Kernel) -> float:
        """Of the precision that a kernel is computed in: as written, where that is lower."""
        if kernel.written is not Precision.FP32:
            return self._rates.get(kernel.written, self._rates[self.precision])
        return self._rates[self.precision]

    def _memory_ms(self, nbytes: float) -> float:
        rate = memory_rate(self.device, int(nbytes), backend=self.backend)
        return 0.0 if rate is None else nbytes / rate.per_s * 1e3

    def _factor(self, op_class: str) -> tuple[float, str]:
        """The factor of a class, else the mean of its family (``conv`` of ``conv.grouped``), and
        what it rests on."""
        if op_class in self._factors:
            factor, ops = self._factors[op_class]
            return factor, f"{op_class} {factor:.2g} times its roofline, from {ops} ops"
        family = op_class.partition(".")[0]
        alike = [f for name, f in self._factors.items() if name.partition(".")[0] == family]
        if not alike:
            return self.assumed(op_class), self._unlearned
        mean = sum(factor for factor, _ in alike) / len(alike)
        ops = sum(count for _, count in alike)
        return mean, f"as {family} {mean:.2g} times its roofline, from {ops} ops"

    def _own_factor(self, name: str) -> float:
        return self._factors[name][0] if name in self._factors else self.assumed(name)


def _factors(
    device: DeviceSpec, precision: Precision, backend: str
) -> tuple[Mapping[str, tuple[float, int]], Precision]:
    """Factors by class, with the number of ops behind each, those of the backend before those of
    any; and the precision that they are of: fp32 where none are of this one."""
    for asked in (precision, Precision.FP32):
        wanted = Arithmetic(asked)
        found = {
            factor.op_class: (factor.value, factor.ops)
            for name in ("", backend)
            for factor in device.figures.op_factors
            if factor.precision is wanted and factor.backend == name
        }
        if found:
            return found, asked
    return {}, precision
