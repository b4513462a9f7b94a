"""Operators on the simulated device: the results of the CPU, in the memory of the device."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dioe_torch.simulated import SimulatedDevices

pytestmark = pytest.mark.own_process


@pytest.fixture(autouse=True)
def clean(mlu: SimulatedDevices) -> Iterator[None]:
    torch.manual_seed(0)
    mlu.reset_copies()
    with torch.no_grad():
        yield


def same(on_device: Tensor, on_host: Tensor, device: str = "mlu:1") -> None:
    assert on_device.device == torch.device(device)
    assert on_device.dtype == on_host.dtype
    assert torch.equal(on_device.cpu(), on_host)


OPERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y,
    "scalar": lambda x, y: 2 / x - 1,
    "number-first": lambda x, y: torch.sub(torch.tensor(2.0), x),
    "matmul": lambda x, y: x @ y.mT,
    "linear": lambda x, y: functional.linear(x, y, y[:, 0]),
    "conv1d": lambda x, y: functional.conv1d(x[None], y[None, :4, :3].expand(2, 4, 3), y[:2, 0]),
    "conv2d": lambda x, y: functional.conv2d(x[None, None], y[:3, None, :4, None], stride=2),
    "conv-transposed": lambda x, y: functional.conv_transpose2d(x[None, None], y[None, None]),
    "max-pool": lambda x, y: functional.max_pool2d(x[None, None], 2),
    "interpolate": lambda x, y: functional.interpolate(x[None, None], scale_factor=2.0),
    "softmax": lambda x, y: x.softmax(0),
    "layer-norm": lambda x, y: functional.layer_norm(x, (5,), y[0], y[1]),
    "batch-norm": lambda x, y: functional.batch_norm(
        x[None], x[:, 0], x[:, 1].abs(), y[:, 0], y[:, 1]
    ),
    "group-norm": lambda x, y: functional.group_norm(x[None], 2),
    "gelu": lambda x, y: functional.gelu(x),
    "where": lambda x, y: torch.where(x > 0, x, y),
    "index": lambda x, y: x[torch.tensor([2, 0, 2])],
    "mask": lambda x, y: x[x > 0],
    "gather": lambda x, y: x.gather(1, y.argsort(1)),
    "scatter": lambda x, y: x.scatter_add(0, y.argsort(0), y),
    "topk": lambda x, y: x.topk(3).values,
    "cat": lambda x, y: torch.cat([x, y.half(), x > 0], dim=1),
    "stack": lambda x, y: torch.stack([x, y]),
    "split": lambda x, y: sum(x.tensor_split(2, 0), start=torch.zeros_like(y[:2])),
    "reduce": lambda x, y: x.std(1) + y.amax(1) + x.logsumexp(1),
    "cumsum": lambda x, y: x.cumsum(0),
    "pad": lambda x, y: functional.pad(x, (1, 2), value=3.0),
    "unfold": lambda x, y: x.unfold(1, 2, 1) * 2,
    "fft": lambda x, y: torch.fft.rfft(x).conj().imag,
    "bf16": lambda x, y: x.bfloat16() @ y.bfloat16().mT,
    "fp16": lambda x, y: x.half() * y.half(),
    "int8": lambda x, y: (x * 9).to(torch.int8) // 2,
    "arange": lambda x, y: x + torch.arange(5, device=x.device),
    "einsum": lambda x, y: torch.einsum("ij,kj->ki", x, y),
    "linalg": lambda x, y: torch.linalg.inv(x @ x.mT + torch.eye(4, device=x.device)),
}


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_gives_what_it_does_on_the_host(name: str) -> None:
    x, y = torch.randn(4, 5), torch.randn(4, 5)
    same(OPERATORS[name](x.to("mlu:1"), y.to("mlu:1")), OPERATORS[name](x, y))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_modules(mode: Callable[[], torch.autograd.grad_mode.no_grad]) -> None:
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5), nn.Softmax(-1)),
    ).eval()
    images = torch.randn(2, 3, 9, 9)
    with mode():
        same(copy.deepcopy(network).to("mlu:1")(images.to("mlu:1")), network(images))


def test_attention() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    tokens = torch.randn(2, 7, 16)
    there = copy.deepcopy(layer).to("mlu:0")(tokens.to("mlu:0"))
    torch.testing.assert_close(there.cpu(), layer(tokens))
    q, k, v = torch.randn(3, 2, 4, 7, 8)
    there = functional.scaled_dot_product_attention(q.to("mlu:0"), k.to("mlu:0"), v.to("mlu:0"))
    torch.testing.assert_close(there.cpu(), functional.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_modules(kind: Callable[..., nn.RNNBase]) -> None:
    layer = kind(6, 5, num_layers=2, bidirectional=True)
    steps = torch.randn(4, 3, 6)
    same(copy.deepcopy(layer).to("mlu:1")(steps.to("mlu:1"))[0], layer(steps)[0])


def test_gradients() -> None:
    with torch.enable_grad():
        host = torch.randn(2, 3, 6, 6, requires_grad=True)
        there = host.detach().to("mlu:1").requires_grad_()
        weight = torch.randn(4, 3, 3, 3)
        on_host = functional.conv2d(host, weight).square().sum()
        on_device = functional.conv2d(there, weight.to("mlu:1")).square().sum()
    (expected,), (gradient,) = (
        torch.autograd.grad(on_host, host),
        torch.autograd.grad(on_device, there),
    )
    torch.testing.assert_close(gradient.cpu(), expected)


def test_operators_in_place_and_with_out() -> None:
    host = torch.randn(6, 6)
    there = host.to("mlu:1")
    for tensor in (host, there):
        tensor[::2].mul_(3).relu_()
        tensor.T.add_(1)
        torch.sin(tensor[1], out=tensor[2])
        tensor[tensor > 2] = -1
        tensor[torch.tensor([0, 3]), 1] = tensor[0, 0]
    same(there, host)


def test_factories() -> None:
    with torch.device("mlu:1"):
        same(torch.ones(3, dtype=torch.int8), torch.ones(3, dtype=torch.int8, device="cpu"))
        same(torch.zeros(2, 2), torch.zeros(2, 2, device="cpu"))
        same(torch.full((2,), 7), torch.full((2,), 7, device="cpu"))
        same(torch.tensor([1.5, 2]), torch.tensor([1.5, 2], device="cpu"))
        same(torch.linspace(0, 1, 5), torch.linspace(0, 1, 5, device="cpu"))
        same(torch.tril_indices(3, 3), torch.tril_indices(3, 3, device="cpu"))


def test_views_and_fills_need_no_fallback(mlu: SimulatedDevices) -> None:
    there = torch.zeros(4, 6, device="mlu:0")
    there.view(2, 12).T[::3].unsqueeze(0).expand(2, 4, 2).permute(2, 0, 1).chunk(2)
    there[1:3, ::2].fill_(2)
    there.view(4, 3, 2).movedim(0, 1).contiguous()
    assert not any(count.count for count in mlu.copies()["fallback"].values())


def test_two_devices_in_one_operator_are_refused() -> None:
    first, second = torch.randn(3, device="mlu:0"), torch.randn(3, device="mlu:1")
    wrongs: tuple[Callable[[], Tensor], ...] = (
        lambda: first + second,
        lambda: torch.cat([first, second]),
        lambda: first.add_(torch.randn(3)),
        lambda: torch.mv(torch.randn(3, 3), first),
    )
    for wrong in wrongs:
        with pytest.raises(RuntimeError, match="same device"):
            wrong()
    assert (first + torch.tensor(1.0)).device == first.device  # a number


def test_random_numbers_are_the_devices_own(mlu: SimulatedDevices) -> None:
    mlu.manual_seed_all(5)
    first = torch.randn(4, device="mlu:0")
    before = torch.get_rng_state()
    assert not torch.equal(torch.randn(4, device="mlu:0"), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.randn(4, device="mlu:1").cpu(), first.cpu())
    torch.manual_seed(5)
    assert torch.equal(torch.randn(4, device="mlu:0"), first)
    own = torch.Generator("mlu:1").manual_seed(5)
    assert torch.equal(torch.randn(4, device="mlu:1", generator=own).cpu(), first.cpu())
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(4, device="mlu:1", generator=torch.Generator())


def test_tensors_are_saved_and_copied() -> None:
    tensor = torch.randn(3, 4).to("mlu:1").T
    same(copy.deepcopy(tensor), tensor.cpu())
    file = io.BytesIO()
    torch.save(tensor, file)
    file.seek(0)
    same(torch.load(file), tensor.cpu())
    file.seek(0)
    assert torch.load(file, map_location="cpu").device.type == "cpu"
    assert "mlu:1" in repr(tensor)
