"""Capturing programs as graphs of torch operators, and having Inductor compile them."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from dioe.host_backend import tensor_specs
from dioe.types import StageModel, TensorSpec, UnsupportedError
from dioe_torch.context import TorchContext, zeros
from dioe_torch.executable import Engine, on_threads
from dioe_torch.guards import guard
from dioe_torch.inductor import OPEN_SHAPES, compiling
from dioe_torch.lowerings import Linked, OpFailed, Program, Unsupported, fold, link
from dioe_torch.program import program_of

OUT_OF_RANGE = "an index is out of range, or an integer is divided by zero"

_CONFIG = {"compile_threads": 1}  # no pool of processes that outlives the compilation

_ATTEMPTS = (
    {"freezing": True},  # weights are constants, packed once
    {"freezing": True, "pattern_matcher": False},
    {"freezing": False},
)
"""Settings, the best first. Torch 2.13 can't fold a bias into a transposed convolution (PP-OCR
det), nor recognise an attention whose scale is a tensor (MiniLM)."""

log = logging.getLogger(__name__)


class InductorEngine:
    """A compiled graph as an executable runs it."""

    def __init__(
        self,
        compiled: Callable[..., Any],
        linked: Linked,
        modules: Sequence[ModuleType],
        *,
        guarded: bool,
    ) -> None:
        self._compiled, self._guarded = compiled, guarded
        self.constants = linked.constants
        weakref.finalize(self, _forget, modules)

    def run(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """The outputs for these inputs; raises IndexError (see ``dioe_torch.guards``)."""
        found: Sequence[Any] = self._compiled(*inputs)
        if not self._guarded:
            return found
        *results, fine = found
        if not fine.item():
            raise IndexError(OUT_OF_RANGE)
        return results


class InductorContext(TorchContext):
    """Torch on one device, through Inductor."""

    inductor = True

    def engine(self, program: Program, inputs: Sequence[TensorSpec]) -> Engine:
        """A compiled graph; raises UnsupportedError for what can't be captured whole."""
        linked = link(program, self.queue.device)
        if not program.ops:
            return linked
        with compiling(), unrecorded(), on_threads(self.resources.threads), torch.no_grad():
            graph, examples = captured(linked, inputs)
            guarded = guard(graph)
            from torch._inductor import compile as compile_graph
            from torch._inductor import config
            from torch._inductor.codecache import PyCodeCache

            before = {id(module) for module in PyCodeCache.modules}
            compiled, reason = None, ""
            for settings in _ATTEMPTS:
                try:
                    with config.patch({**_CONFIG, **settings}):
                        compiled = compile_graph(copy.deepcopy(graph), list(examples))
                        compiled(*examples)  # loads the kernels and packs the weights
                    break
                except Exception as error:
                    compiled, reason = None, _first_line(error)
                    log.info("Inductor fails with %s", settings, exc_info=True)
            if compiled is None:
                raise UnsupportedError(f"Inductor fails: {reason}", place=self.place)
            modules = [m for m in PyCodeCache.modules if id(m) not in before]
        return InductorEngine(compiled, linked, modules, guarded=guarded)


def _forget(modules: Sequence[ModuleType]) -> None:
    """Take generated modules, which hold the weights, from where torch keeps them for good."""
    from torch._inductor.codecache import PyCodeCache

    shared = {id(module) for module in PyCodeCache.modules_no_attr.values()}
    own = {id(module): module for module in modules if id(module) not in shared}
    PyCodeCache.modules[:] = [m for m in PyCodeCache.modules if id(m) not in own]
    for module in own.values():
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
        vars(module).clear()


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Leave nothing in the records that torch keeps of compilations, for services that collect them
    and for tracebacks: 50 KiB each."""
    import linecache

    from torch._dynamo import utils
    from torch.fx import graph_module

    records: Any = getattr(utils, "_compilation_metrics", [])
    sources: Any = getattr(getattr(graph_module, "_loader", None), "eval_cache", {})
    count, known = len(records), set(sources)
    try:
        yield
    finally:
        while len(records) > count:
            records.pop()
        for name in [name for name in sources if name not in known]:
            del sources[name]
            linecache.cache.pop(name, None)


@unrecorded()
def captured(
    linked: Linked, inputs: Sequence[TensorSpec]
) -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    """The graph of a linked program, and inputs of its shapes.

    Raises UnsupportedError for open shapes and for programs that can't be captured whole; its place
    is the id of the op that is to blame, where there is one.
    """
    examples = [tensor.to(linked.device) for tensor in zeros(inputs)]
    if len(examples) < len(inputs):
        raise UnsupportedError(OPEN_SHAPES)
    fixed = {i for i, name in enumerate(linked.program.outputs) if linked.is_constant(name)}

    def whole(*values: torch.Tensor) -> list[Any]:
        results = linked.run(values)
        return [r.clone() if i in fixed else r for i, r in enumerate(results)]

    try:
        with torch.no_grad():
            capture = make_fx(whole, tracing_mode="fake", _allow_non_fake_inputs=True)
            graph: torch.fx.GraphModule = capture(*examples)
    except OpFailed as error:
        reason = f"what {error.op.type} gives depends on values: {_first_line(error.error)}"
        raise UnsupportedError(reason, place=error.op.id) from error
    except Exception as error:  # tracing raises whatever a meta function does
        raise UnsupportedError(f"can't be captured as one graph: {_first_line(error)}") from error
    for node in graph.graph.nodes:
        if torch.Tag.dynamic_output_shape in getattr(node.target, "tags", ()):
            raise UnsupportedError(f"the shape that {node.target} gives depends on values")
    return graph, examples


def blamed(model: StageModel) -> dict[str, str]:
    """The ops that keep a model from being captured, with reasons; all where no single one is to
    blame, none where it can be."""
    inputs, _ = tensor_specs(model)
    try:
        program = fold(program_of(model), zeros(inputs))
        captured(link(program, torch.device("cpu")), inputs)
    except UnsupportedError as error:
        ops = (error.place,) if error.place in model.op_ids else model.op_ids
        return dict.fromkeys(ops, error.cause)
    except Unsupported as error:
        return dict.fromkeys(model.op_ids, str(error))
    return {}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
