"""What devices ask beside the work of blocks: copies, and of modelled ones each run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dioe.profiling import History
from dioe.runtime import Runtime
from dioe.tuning.beside import Setting
from dioe.tuning.copies import Copies
from dioe.tuning.known import Known
from dioe.tuning.targets import Candidate
from dioe.types import KnownAs, Resources, Support, Target
from dioe_null import NPU, LinkModel, NullBackend
from tests.toys.backend import registry_of
from tests.toys.work import Clock, ModelledClock

LINK = LinkModel(bandwidth_gbps=1.0, latency_us=500.0)
MIB = 1 << 20


@pytest.fixture
def runtime(clock: Clock) -> Iterator[Runtime]:
    device = replace(NPU, link=LINK, dispatch_us=2000.0)
    made = Runtime(registry_of(NullBackend([device], ModelledClock(clock))))
    yield made
    made.close()


@pytest.fixture
def copies(runtime: Runtime) -> Copies:
    known = Known(History(None), "m", {}, "s", "h", {"null": "1"}, frozenset({"npu:0"}))
    return Copies(runtime, known)


def setting(target: str, known_as: KnownAs) -> Setting:
    support = Support(frozenset({"op"}))
    candidate = Candidate(Target.parse(target), Resources(), support, known_as=known_as)
    return Setting(candidate, Resources())


def test_of_a_modelled_device_a_run_is_known_as_well(copies: Copies) -> None:
    npu, cpu = setting("npu:0/null/fp32", KnownAs.MODELLED), setting("cpu/a/fp32", KnownAs.HARDWARE)
    copies.measure([npu, cpu], locked=True)
    assert copies.of(npu).to_ms(MIB) == pytest.approx(LINK.transfer_ms(MIB), rel=0.01)
    moved_ms = LINK.transfer_ms(MIB) + LINK.transfer_ms(2 * MIB)
    sizes = [MIB], [2 * MIB]
    assert copies.without(npu, 20.0, *sizes) == pytest.approx(20 - moved_ms, rel=0.01)
    assert copies.own_ms(npu, 20.0, *sizes) == pytest.approx(18 - moved_ms, rel=0.01)
    assert copies.own_ms(npu, 1.0, *sizes) == pytest.approx(0.1)  # something is left of any stage
    assert copies.own_ms(cpu, 20.0, *sizes) == 20.0
    prior = copies.prior([npu, cpu])
    assert prior.costs.keys() == {npu.name}
    assert prior.costs_of(npu.name).dispatch_ms == pytest.approx(2.0, rel=0.01)
    assert prior.handover_ms(cpu.name, npu.name) == prior.handover_ms(npu.name, cpu.name) == 0.0


def test_of_others_stages_tell_what_a_run_costs(copies: Copies) -> None:
    real = setting("npu:0/null/fp32", KnownAs.HARDWARE)
    copies.measure([real], locked=True)
    assert copies.own_ms(real, 20.0, [], [0]) == copies.without(real, 20.0, [], [0])
    assert not copies.prior([real]).costs
    assert not copies.prior([real]).handover
