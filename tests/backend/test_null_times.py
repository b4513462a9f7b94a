"""Modelled times: rooflines by hand, lanes, links, and waiting for real."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe.types import HostBuffer, Precision, Precisions, Resources, TensorSpec, TimedOut
from dioe_null import DeviceModel, LinkModel, NullBackend, RealClock, VirtualClock
from dioe_null.device import Lane
from tests.backend.cases import floats, model, rng, small_network

ROUND = DeviceModel(
    id="npu:0",
    name="round numbers",
    peak_tflops={Precision.FP32: 1.0, Precision.FP16: 4.0, Precision.INT8: 8.0},
    memory_bytes=2**30,
    memory_gbps=100.0,
    link=LinkModel(bandwidth_gbps=1.0, latency_us=100.0),
    compute_efficiency=0.5,
    memory_efficiency=0.5,
    launch_us=10.0,
    dispatch_us=1000.0,
)
OTHER = replace(ROUND, id="npu:1")
MATMUL = model("g (float[100,200] x, float[200,300] w) => (float[100,300] y) { y = MatMul(x, w) }")
FEEDS = {"x": floats(100, 200), "w": floats(200, 300, seed=1)}

COMPUTE_MS = 2 * 100 * 200 * 300 / 0.5e9
BYTES = 4 * (100 * 200 + 200 * 300 + 100 * 300)
LINK_MS = 0.1 + BYTES / 1e6 + 2 * 0.1


class Pool:
    """Two equal devices on a virtual clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock(start_ms=5.0)
        self.backend = NullBackend([ROUND, OTHER], self.clock)

    def context(self, device: str = "npu:0") -> Any:
        return self.backend.open(device, Resources())

    def request(self, device: str = "npu:0", precision: Precision = Precision.FP32) -> Any:
        executable = self.context(device).compile(MATMUL, Precisions(precision), {})
        request = executable.request()
        request.bind(FEEDS)
        return request

    def on_device(self, device: str = "npu:0") -> Any:
        """A request on buffers of the device, so that nothing goes over the link."""
        context = self.context(device)
        request = context.compile(MATMUL, Precisions(), {}).request()
        f32 = np.dtype(np.float32)
        feeds = {n: context.alloc(TensorSpec(n, f32, a.shape)) for n, a in FEEDS.items()}
        request.bind(feeds, {"y": context.alloc(TensorSpec("y", f32, (100, 300)))})
        return request

    def timed(self, work: Any) -> float:
        start = self.clock.now_ms()
        work()
        return self.clock.now_ms() - start


def test_a_run_by_hand() -> None:
    pool = Pool()
    request = pool.request()
    took_ms = pool.timed(lambda: request.run().wait())
    assert took_ms == pytest.approx(LINK_MS + 1.0 + 0.01 + COMPUTE_MS)
    named = pool.timed(lambda: request.call(FEEDS, ["y"]))
    assert named == pytest.approx(took_ms)


@pytest.mark.parametrize(
    ("precision", "peak", "bits"),
    [(Precision.FP32, 1.0, 32), (Precision.FP16, 4.0, 16), (Precision.INT8, 8.0, 8)],
)
def test_precisions(precision: Precision, peak: float, bits: int) -> None:
    executable = Pool().context().compile(MATMUL, Precisions(precision), {})
    cost = executable.cost({name: a.shape for name, a in FEEDS.items()})
    (op,) = cost.ops
    assert (op.flops, op.nbytes, op.precision) == (12_000_000, BYTES * bits // 32, precision)
    arithmetic, traffic = op.flops / (peak * 0.5e9), op.nbytes / 50e6
    assert op.ms == pytest.approx(max(arithmetic, traffic) + 0.01)


def test_exceptions_by_op_and_integer_ops() -> None:
    made = model(
        "g (float[8,8] x, uint8[8,8] q) => (float[8,8] y, int32[8,8] z) {"
        " y = MatMul(x, x) z = MatMulInteger(q, q) }"
    )
    precisions = Precisions(Precision.FP16, {made.op_ids[0]: Precision.FP32})
    executable: Any = Pool().context().compile(made, precisions, {})
    ops = executable.cost({"x": (8, 8), "q": (8, 8)}).ops
    assert [op.precision for op in ops] == [Precision.FP32, Precision.INT8]
    as_written: Any = (
        Pool()
        .context()
        .compile(model("g (float16[8,8] x) => (float16[8,8] y) { y = Relu(x) }"), Precisions(), {})
    )
    assert as_written.cost({"x": (8, 8)}).ops[0].precision is Precision.FP16


def test_ops_without_arithmetic_cost_their_bytes_and_views_nothing() -> None:
    made = model(
        "g (float[1000,50] x) => (float[50000] y) {"
        " t = Transpose(x) s = Constant<value_ints: ints = [50000]>() y = Reshape(t, s) }"
    )
    transpose, reshape = (
        Pool()
        .context()
        .compile(made, Precisions(), {})
        .cost({"x": (1000, 50)})
        .ops[:: len(made.op_ids) - 1]
    )
    assert transpose.ms == pytest.approx(2 * 200_000 / 50e6 + 0.01)
    assert (reshape.ms, reshape.nbytes) == (0.0, 0)


def test_activations_by_liveness() -> None:
    made = model(
        "g (float[N] x) => (float[N] y) { a = Abs(x) b = Neg(a) c = Add(a, b) y = Exp(c) }"
    )
    executable: Any = Pool().context().compile(made, Precisions(), {})
    assert executable.cost({"x": (1000,)}).activation_bytes == 3 * 4000  # a, b and c


def test_a_lane_runs_one_after_the_other_and_two_devices_at_once() -> None:
    pool = Pool()
    one, same, other = pool.on_device(), pool.on_device(), pool.on_device("npu:1")
    alone_ms = pool.timed(lambda: one.run().wait())
    assert alone_ms == pytest.approx(1.0 + 0.01 + COMPUTE_MS)

    def both(first: Any, second: Any) -> None:
        events = [first.run(), second.run()]
        assert not any(event.done() for event in events)
        for event in events:
            event.wait()
            assert event.done()

    assert pool.timed(lambda: both(one, same)) == pytest.approx(2 * alone_ms)
    assert pool.timed(lambda: both(one, other)) == pytest.approx(alone_ms)


def test_a_stage_waits_for_its_inputs() -> None:
    pool = Pool()
    context = pool.context()
    request = pool.on_device()
    x = context.alloc(TensorSpec("x", np.dtype(np.float32), (100, 200)))
    sent = context.copy(HostBuffer(FEEDS["x"]), x)
    assert x.ready is sent
    assert not sent.done()
    request.bind({"x": x})
    took_ms = pool.timed(lambda: request.run().wait())
    assert took_ms == pytest.approx(0.1 + 0.08 + 1.0 + 0.01 + COMPUTE_MS)


def test_transfers_by_hand() -> None:
    pool = Pool()
    here, there = pool.context(), pool.context("npu:1")
    spec = TensorSpec("b", np.dtype(np.float32), (250_000,))
    one, second, far = here.alloc(spec), here.alloc(spec), there.alloc(spec)
    host = HostBuffer(floats(250_000))
    assert pool.timed(lambda: here.copy(host, one).wait()) == pytest.approx(1.1)
    assert pool.timed(lambda: here.copy(one, host).wait()) == pytest.approx(1.1)
    assert pool.timed(lambda: here.copy(one, second).wait()) == pytest.approx(2e6 / 50e6)
    assert pool.timed(lambda: here.copy(one, far).wait()) == pytest.approx(2.2)

    def both_ways() -> None:
        for event in (here.copy(host, one), here.copy(second, HostBuffer(floats(250_000)))):
            event.wait()

    assert pool.timed(both_ways) == pytest.approx(1.1)
    assert pool.timed(
        lambda: [e.wait() for e in (here.copy(host, one), here.copy(host, second))]
    ) == pytest.approx(2.2)


def test_waiting_with_a_limit() -> None:
    pool = Pool()
    event = pool.on_device().run()
    with pytest.raises(TimedOut, match=r"0\.25 ms"):
        event.wait(0.25)
    assert pool.clock.now_ms() == pytest.approx(5.25)
    event.wait(10.0)
    assert event.done()


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 30)), max_size=20))
def test_work_on_a_lane_never_overlaps(work: list[tuple[float, float]]) -> None:
    clock = VirtualClock()
    lane = Lane(clock)
    end_ms = 0.0
    for duration_ms, not_before_ms in work:
        event = lane.submit(duration_ms, not_before_ms)
        assert event.at_ms == pytest.approx(max(end_ms, not_before_ms) + duration_ms)
        end_ms = event.at_ms
    clock.sleep_until(end_ms)
    assert lane.busy_ms == pytest.approx(sum(duration for duration, _ in work))


def test_utilization() -> None:
    pool = Pool()
    context = pool.context()
    request = pool.on_device()
    assert context.utilization() is None
    request.run().wait()
    pool.clock.advance(1.01 + COMPUTE_MS)
    sample = context.utilization()
    assert sample is not None
    assert (sample.value, sample.source) == (pytest.approx(50.0), "modelled")


def test_profile_gives_the_modelled_time_of_every_op() -> None:
    made = small_network()
    executable: Any = Pool().context().compile(made, Precisions(Precision.FP16), {"profile": True})
    assert executable.profile() == ()
    request = executable.request()
    request.bind({"x": floats(1, 3, 16, 16)})
    for _ in range(21):
        request.run()
    times = executable.profile()
    assert [time.ops for time in times] == [(op,) for op in made.op_ids]
    cost = executable.cost({"x": (1, 3, 16, 16)})
    for op, modelled in zip(times, cost.ops, strict=True):
        assert (op.count, op.precision) == (20, "fp16")
        assert op.mean_ms == pytest.approx(modelled.ms)
    assert sum(t.mean_ms for t in times) + 1.0 == pytest.approx(cost.total_ms)


def test_the_real_clock_keeps_its_times() -> None:
    clock = RealClock()
    late_us = []
    for wait_ms in rng().uniform(0.05, 3.0, 30):
        at_ms = clock.now_ms() + wait_ms
        clock.sleep_until(at_ms)
        late_us.append((clock.now_ms() - at_ms) * 1e3)
    assert min(late_us) >= 0
    assert float(np.percentile(late_us, 25)) < 50  # a busy machine makes some late


def test_runs_on_two_devices_overlap_for_real() -> None:
    slow = replace(ROUND, dispatch_us=30_000.0)
    backend = NullBackend([slow, replace(slow, id="npu:1")])

    def seconds(devices: tuple[str, str]) -> float:
        requests = []
        for device in devices:
            executable = backend.open(device, Resources()).compile(MATMUL, Precisions(), {})
            requests.append(executable.request())
            requests[-1].bind(FEEDS)
        threads = [threading.Thread(target=lambda r=r: r.run().wait()) for r in requests]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    assert min(seconds(("npu:0", "npu:1")) for _ in range(3)) < 0.055
    assert seconds(("npu:0", "npu:0")) >= 0.06
