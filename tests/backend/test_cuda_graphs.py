"""Captured graphs: what is captured when, what is replayed, what is refused and why.

On the simulated device, with graphs that are tapes (``tests.backend.taped_graphs``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from dioe.testing.models import floats, model, perceptron, small_network
from dioe.types import BackendError, HostBuffer, Precisions, Resources, TensorSpec
from dioe_cuda.context import CudaContext
from dioe_cuda.graphs import Replayed
from dioe_cuda.watch import Watch
from dioe_torch import devices
from dioe_torch.executable import TorchRequest
from tests.backend import taped_graphs
from tests.backend.taped_graphs import TapedGraph, reference

if TYPE_CHECKING:
    from dioe_torch.simulated import SimulatedDevices

pytestmark = pytest.mark.own_process

Opened = Callable[..., CudaContext]


@pytest.fixture
def opened(mlu: SimulatedDevices, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Contexts of the backend on ``mlu:0``, whose module has graphs."""
    monkeypatch.setattr(mlu, "CUDAGraph", TapedGraph, raising=False)
    monkeypatch.setattr(mlu, "graph", taped_graphs.graph, raising=False)
    (found,) = (each for each in devices.accelerators() if each.info.id == "mlu:0")
    with ExitStack() as stack:

        def open_() -> CudaContext:
            context = CudaContext(found, Resources(threads=1), place="cuda")
            stack.callback(context.close)
            return context

        yield open_


def request_on(context: CudaContext, made: Any, **options: Any) -> TorchRequest:
    request = context.compile(made, Precisions(), options).request()
    assert isinstance(request, TorchRequest)
    return request


def graph_of(request: TorchRequest) -> TapedGraph | None:
    runner = request._runner
    assert isinstance(runner, Replayed)
    found: Any = runner._graph
    return found  # type: ignore[no-any-return]


def ran(request: TorchRequest, **feeds: Any) -> Any:
    request.bind(feeds)
    request.run().wait()
    return request.outputs["y"]


def test_the_second_run_is_captured_and_the_others_are_replayed(opened: Opened) -> None:
    made = small_network()
    request = request_on(opened(), made)
    assert request.graph_note is None
    for run in range(5):
        x = floats(1, 3, 16, 16, seed=run)
        y = ran(request, x=x)
        np.testing.assert_allclose(y, reference(made, {"x": x})["y"], rtol=1e-4, atol=1e-6)
        assert request.graph_note == ("" if run else None)
    graph = graph_of(request)
    assert graph is not None
    assert graph.tape
    assert graph.replays == 4


def test_calls_replay_too(opened: Opened) -> None:
    made = small_network()
    request = request_on(opened(), made)
    kept = []
    for seed in range(4):
        x = floats(1, 3, 16, 16, seed=seed)
        (y,) = request.call({"x": x}, ["y"])
        kept.append((np.asarray(y), reference(made, {"x": x})["y"]))
    assert request.graph_note == ""
    for y, wanted in kept:  # what a call gave is the caller's, whatever was replayed later
        np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-6)


def test_buffers_and_arrays_bound_anew_are_copied_in(opened: Opened) -> None:
    context = opened()
    made = perceptron(2, 8)
    request = request_on(context, made)
    shape = TensorSpec("x", np.dtype(np.float32), (3, 8))
    target = context.alloc(shape)
    back = np.empty((3, 8), np.float32)
    request.bind({}, {"y": target})
    for seed in range(6):
        x = floats(3, 8, seed=seed)
        if seed % 2:
            buffer = context.alloc(shape)
            context.copy(HostBuffer(x), buffer)
            request.bind({"x": buffer})
        else:
            request.bind({"x": x})
        request.run()
        context.copy(target, HostBuffer(back)).wait()
        np.testing.assert_allclose(back, reference(made, {"x": x})["y"], rtol=1e-4, atol=1e-6)
    assert request.graph_note == ""


def test_other_shapes_are_captured_once_they_stay(opened: Opened) -> None:
    made = perceptron(2, 8)
    request = request_on(opened(), made)

    def check(rows: int, seed: int) -> TapedGraph | None:
        x = floats(rows, 8, seed=seed)
        wanted = reference(made, {"x": x})["y"]
        np.testing.assert_allclose(ran(request, x=x), wanted, rtol=1e-4, atol=1e-6)
        return graph_of(request)

    assert check(3, 0) is None
    first = check(3, 1)
    assert first is not None
    for seed in range(4):  # by turns: nothing is captured for those that don't stay
        assert check(5, seed) is first
        assert request.graph_note is None
        assert check(3, seed) is first
        assert request.graph_note == ""
    check(5, 7)
    second = check(5, 8)
    assert second is not None
    assert second is not first
    assert first.resets == 1


def test_requests_have_graphs_of_their_own(opened: Opened) -> None:
    made = perceptron(2, 8)
    executable = opened().compile(made, Precisions(), {})
    requests = [executable.request(), executable.request()]
    inputs = [floats(2, 8, seed=1), floats(2, 8, seed=2)]
    for _ in range(4):
        for request, x in zip(requests, inputs, strict=True):
            assert isinstance(request, TorchRequest)
            wanted = reference(made, {"x": x})["y"]
            np.testing.assert_allclose(ran(request, x=x), wanted, rtol=1e-4, atol=1e-6)


REFUSED = {
    "a shape of values": (
        "g (float[2,6] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }",
        {"x": floats(2, 6), "s": np.array([3, 4])},
        "copies from mlu to cpu",
    ),
    "a count of values": (
        "g (float[2,6] x) => (int64[2,n] y) { y = NonZero(x) }",
        {"x": floats(2, 6).clip(0)},
        "makes the host wait for values",
    ),
    "a branch": (
        "g (bool c, float[2,6] x) => (float[2,6] y) { y = If (c) <"
        " then_branch = p () => (float[2,6] t) { t = Neg(x) },"
        " else_branch = q () => (float[2,6] e) { e = Abs(x) }> }",
        {"c": np.array(True), "x": floats(2, 6)},
        "copies from mlu to cpu",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_values_on_the_host_runs_op_by_op(opened: Opened, case: str) -> None:
    text, feeds, reason = REFUSED[case]
    made = model(text)
    request = request_on(opened(), made)
    for _ in range(4):
        np.testing.assert_array_equal(ran(request, **feeds), reference(made, feeds)["y"])
        assert reason in (request.graph_note or "")
    assert graph_of(request) is None
    if case == "a branch":  # which a graph would have taken for ever
        feeds = feeds | {"c": np.array(False)}
        np.testing.assert_array_equal(ran(request, **feeds), reference(made, feeds)["y"])


def test_random_numbers_are_drawn_anew(opened: Opened) -> None:
    made = model("g (float[4,6] x) => (float[4,6] y) { y = RandomNormalLike(x) }")
    request = request_on(opened(), made)
    drawn = [np.array(ran(request, x=floats(4, 6))) for _ in range(4)]
    assert "draws random numbers" in (request.graph_note or "")
    assert len({each.tobytes() for each in drawn}) == 4


def test_what_fails_to_be_captured_runs_op_by_op(
    opened: Opened, mlu: SimulatedDevices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"CUDA error: {taped_graphs.REFUSAL}")

    monkeypatch.setattr(mlu, "graph", refuse, raising=False)
    made = perceptron(1, 8)
    request = request_on(opened(), made)
    for seed in range(3):
        x = floats(2, 8, seed=seed)
        wanted = reference(made, {"x": x})["y"]
        np.testing.assert_allclose(ran(request, x=x), wanted, rtol=1e-4, atol=1e-6)
    assert "capturing failed" in (request.graph_note or "")
    assert taped_graphs.REFUSAL in (request.graph_note or "")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"cuda_graphs": False}, "cuda_graphs is off"), ({"profile": True}, "one by one")],
)
def test_nothing_is_captured_where_that_is_off(
    opened: Opened, options: dict[str, bool], reason: str
) -> None:
    request = request_on(opened(), perceptron(1, 8), **options)
    for _ in range(3):
        ran(request, x=floats(2, 8))
    assert reason in (request.graph_note or "")


def test_a_device_without_graphs(
    opened: Opened, mlu: SimulatedDevices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mlu, "CUDAGraph")
    request = request_on(opened(), perceptron(1, 8))
    assert request.graph_note == "torch.mlu captures no graphs"


def test_closing_lets_go_of_graphs(opened: Opened) -> None:
    context = opened()
    executable = context.compile(perceptron(1, 8), Precisions(), {})
    request = executable.request()
    assert isinstance(request, TorchRequest)
    for _ in range(3):
        ran(request, x=floats(2, 8))
    graph = graph_of(request)
    assert graph is not None
    executable.close()
    assert graph.resets == 1
    assert graph_of(request) is None
    with pytest.raises(BackendError, match="closed"):
        request.run()


def seen(run: Callable[[torch.Tensor], object]) -> str:
    """What a watch says of a run on a tensor of the device."""
    x = torch.randn(4, 4, device="mlu:0")
    with Watch() as watch:
        run(x)
    return str(watch.reason)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (lambda x: x.relu().sum(1), ""),
        (lambda x: x[1:, None].expand(3, 2, 4).contiguous(), ""),
        (lambda x: x * torch.tensor(2.0), ""),  # a number of the host's is an operand
        (lambda x: torch.zeros(3) + 1, ""),  # what stays on the host is nobody's business
        (lambda x: x.sum().item(), "_local_scalar_dense makes the host wait"),
        (lambda x: bool((x > 0).any()), "makes the host wait"),
        (lambda x: x.cpu(), "copies from mlu to cpu"),
        (lambda x: x.sum().cpu(), "copies from mlu to cpu"),
        (lambda x: x + torch.tensor(2.0).to("mlu:0"), "copies between cpu and mlu"),
        (lambda x: x[torch.tensor([0, 2])], "copies between cpu and mlu"),
        (lambda x: x[x[0].argsort()], ""),
        (lambda x: x + torch.ones(4).to("mlu:0"), "copies between cpu and mlu"),
        (lambda x: x[x > 0], "by a mask makes the host wait for its count"),
        (torch.unique, "makes the host wait"),
        (lambda x: torch.masked_select(x, x > 0), "makes the host wait"),
        (torch.rand_like, "draws random numbers"),
        (lambda x: torch.rand(3, device="mlu:0"), "draws random numbers"),
    ],
)
def test_what_a_watch_sees(
    mlu: SimulatedDevices, run: Callable[[torch.Tensor], object], reason: str
) -> None:
    found = seen(run)
    assert reason in found
    assert bool(found) == bool(reason)
