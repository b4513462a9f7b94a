"""A stand-in for ``torch.cuda.CUDAGraph`` on the simulated device: a tape of operators.

Capturing runs them and writes down each with its operands; replaying runs them again on the same
tensors, and puts what they give where it was put then. So it repeats what a graph would, with the
operands a graph would have: what was a number then still is the same one. Like a graph it refuses
whatever brings values to the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dioe.graph import Model
from dioe_cuda.context import CudaContext, CudaExecutable
from dioe_cuda.graphs import Replayed
from dioe_torch.executable import on_threads

REFUSAL = "operation not permitted when stream is capturing"


class TapedGraph:
    """What is recorded while it is captured, to be replayed."""

    def __init__(self) -> None:
        self.tape: list[tuple[Any, Any, Any, Any]] = []
        self.threads = torch.get_num_threads()  # sums are added up in an order by their number
        self.replays = 0
        self.resets = 0

    def replay(self) -> None:
        self.replays += 1
        with torch.inference_mode(), on_threads(self.threads):
            for func, args, kwargs, before in self.tape:
                after = func(*args, **kwargs)
                for old, new in zip(_tensors(before), _tensors(after), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)

    def reset(self) -> None:
        self.resets += 1
        self.tape.clear()


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, graph: TapedGraph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, kwargs = _tensors((args, kwargs)), kwargs or {}
        result = func(*args, **kwargs)
        places = {tensor.device.type for tensor in _tensors(result)} or {"cpu"}
        if "cpu" in places and any(tensor.device.type != "cpu" for tensor in given):
            raise RuntimeError(REFUSAL)
        self._graph.threads = torch.get_num_threads()
        if places != {"cpu"}:
            self._graph.tape.append((func, args, kwargs, result))
        return result


@contextlib.contextmanager
def graph(cuda_graph: TapedGraph, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
    """As ``torch.cuda.graph``."""
    assert capture_error_mode == "thread_local"
    module: Any = getattr(torch, stream.device.type)
    module.synchronize(stream.device)
    with module.stream(stream), _Recorder(cuda_graph):
        yield


def install(module: Any) -> None:
    """Give a device's module graphs, as ``torch.cuda`` has them."""
    module.CUDAGraph, module.graph = TapedGraph, graph


class Thrice(Replayed):
    """Every run made until it is one that would be replayed."""

    def __call__(self, inputs: Sequence[Any]) -> Sequence[Any]:
        for _ in range(2):
            super().__call__(inputs)
        return super().__call__(inputs)


class ThriceExecutable(CudaExecutable):
    runner_type = Thrice


class ThriceContext(CudaContext):
    executable_type = ThriceExecutable


def reference(model: Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """What ``onnx.reference`` computes, by name."""
    from onnx.reference import ReferenceEvaluator

    found = ReferenceEvaluator(onnx.load_from_string(model.to_bytes())).run(None, dict(feeds))
    return dict(zip([spec.name for spec in model.outputs], found, strict=True))


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
