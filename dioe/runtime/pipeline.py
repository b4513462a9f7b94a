"""Pipelines: several models, with Python between them, and which value goes where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from dioe.graph import Model
from dioe.runtime.feeds import describe
from dioe.runtime.host_task import Task
from dioe.types import DioeError, InputError, PipelineEdge, TensorSpec

Origin: TypeAlias = tuple[str, str]
"""Where a value is from: a node and its output; of a feed, no node and the full name."""

_WRITE_EDGE = 'write ("det.out", "post.x"): from a node\'s output to a node\'s input'


class Pipeline:
    """Models and Python callables as the nodes of a graph without cycles; ``dioe.compile`` takes
    it as it takes a model, and gives one session over the whole.

    ``nodes`` are models, as ``dioe.compile`` takes them, and callables, by names of their own.
    ``edges`` lead from ``node.output`` to ``node.input``. The inputs of a callable are its
    parameters; its outputs are the keys of the mapping that it returns, or ``out`` where it returns
    anything else. Inputs without an edge are the pipeline's, under the name ``node.input`` (or
    ``input`` alone where it is unique), and outputs without an edge are its outputs, as are those
    named in ``outputs``. ``calls`` maps a parameter of a callable, ``node.parameter``, to a model
    that this callable calls itself, once for each step of a loop, say: it gets a function that
    takes a feed and gives the outputs by name, as ``Session.run`` does.

    A callable sees its inputs read-only, may be called by several threads at once, and is called
    repeatedly while a pipeline is tuned.

    Raises InputError for an unknown node, value or parameter, a cycle, an input fed twice, and for
    types and shapes that can't fit; ModelError for a model that can't be read.
    """

    def __init__(
        self,
        nodes: Mapping[str, Any],
        edges: Iterable[tuple[str, str]] = (),
        *,
        outputs: Iterable[str] = (),
        calls: Mapping[str, str] | None = None,
    ) -> None:
        self.models: dict[str, Model] = {}
        self.tasks: dict[str, Task] = {}
        self._add_nodes(nodes)
        self.calls = self._checked_calls(calls or {})
        called = set(self.calls.values())
        self.wires: dict[str, dict[str, Origin]] = {
            name: {} for name in nodes if name not in called
        }
        """By node that edges lead to: where each of its inputs is from."""
        self.edges = tuple(self._checked_edge(edge) for edge in _listed(edges, "edges"))
        self.order = self._sorted()
        """The nodes in the order they run in; without models that are called."""
        self.inputs = self._free_inputs()
        """Full names of the inputs, in the order of the nodes."""
        self.asked = tuple(self._checked_output(name) for name in _listed(outputs, "outputs"))
        """Full names of outputs that are the pipeline's although edges lead from them."""

    # --- what it is made of ----------------------------------------------------------------

    def _add_nodes(self, nodes: Mapping[str, Any]) -> None:
        if not isinstance(nodes, Mapping) or not nodes:
            raise InputError(
                f"nodes is {nodes!r:.60}", fix='map names to nodes: {"det": "det.onnx", "post": f}'
            )
        for name, node in nodes.items():
            if not isinstance(name, str) or not name or "." in name:
                raise InputError(
                    f"{name!r} can't be a node's name", fix="use text without dots, such as 'det'"
                )
            if callable(node):
                self.tasks[name] = Task.of(name, node)
                continue
            with in_node(name):
                self.models[name] = Model.load(node)

    def _checked_calls(self, calls: Mapping[str, str]) -> dict[str, str]:
        if not isinstance(calls, Mapping):
            raise InputError(
                f"calls is {calls!r:.60}",
                fix='map parameters to models: {"caption.step": "decode"}',
            )
        for place, model in calls.items():
            node, parameter = self._split(place)
            if node not in self.tasks:
                raise InputError(
                    f"{place!r} in calls: {node!r} is a model",
                    fix="only a callable can call a model; connect models by edges",
                )
            self._check_input(node, parameter)
            if model not in self.models:
                raise InputError(f"{place!r} calls {model!r}, which is no model of the pipeline",
                                 fix=near(model, self.models))  # fmt: skip
        return dict(calls)

    def _checked_edge(self, edge: Any) -> PipelineEdge:
        if not isinstance(edge, tuple | list) or len(edge) != 2:
            raise InputError(f"edge {edge!r:.60} is no pair", fix=_WRITE_EDGE)
        (source, output), (node, name) = self._split(edge[0]), self._split(edge[1])
        for end in (source, node):
            if end in self.calls.values():
                raise InputError(
                    f"edge {edge[0]} -> {edge[1]}: {end!r} is called by a callable",
                    fix="leave it out of the edges, or out of calls",
                )
        self._check_output(source, output)
        self._check_input(node, name)
        wires = self.wires[node]
        if name in wires or f"{node}.{name}" in self.calls:
            other = ".".join(wires[name]) if name in wires else self.calls[f"{node}.{name}"]
            raise InputError(
                f"{node}.{name} is fed twice: by {other} and by {source}.{output}",
                fix="leave one of them out",
            )
        if source in self.models and node in self.models:
            gives = self._spec(self.models[source].outputs, output)
            takes = self._spec(self.models[node].inputs, name)
            clash = _clash(gives, takes)
            if clash:
                raise InputError(
                    f"edge {edge[0]} -> {edge[1]}: {clash}",
                    fix=f"{source} gives {describe(gives)}, {node} takes {describe(takes)}; put a "
                    "callable between them that converts it",
                )
        wires[name] = (source, output)
        return PipelineEdge(f"{source}.{output}", f"{node}.{name}")

    def _split(self, place: Any) -> tuple[str, str]:
        """Node and value of ``node.value``; raises InputError for a node that isn't there."""
        node, dot, value = place.partition(".") if isinstance(place, str) else ("", "", "")
        if not dot or not value:
            raise InputError(f"{place!r} names no node's value", fix=_WRITE_EDGE)
        if node not in self.models and node not in self.tasks:
            raise InputError(
                f"{place!r}: the pipeline has no node {node!r}",
                fix=near(node, [*self.models, *self.tasks]),
            )
        return node, value

    def _check_output(self, node: str, name: str) -> None:
        """Raise InputError if the node is a model without that output; of a callable, who knows."""
        if node in self.models:
            known = [spec.name for spec in self.models[node].outputs]
            if name not in known:
                raise InputError(f"node {node!r} has no output {name!r}", fix=near(name, known))

    def _checked_output(self, full: Any) -> str:
        node, name = self._split(full)
        if node in self.calls.values():
            raise InputError(
                f"{full!r}: {node!r} is called by a callable", fix="have the callable return it"
            )
        self._check_output(node, name)
        return f"{node}.{name}"

    def _check_input(self, node: str, name: str) -> None:
        if node in self.models:
            known = [spec.name for spec in self.models[node].inputs]
            word = "input"
        else:
            task = self.tasks[node]
            known = [*task.parameters, *([name] if task.takes_any else [])]
            word = "parameter"
        if name not in known:
            raise InputError(f"node {node!r} has no {word} {name!r}", fix=near(name, known))

    @staticmethod
    def _spec(specs: Iterable[TensorSpec], name: str) -> TensorSpec:
        return next(spec for spec in specs if spec.name == name)

    def _sorted(self) -> tuple[str, ...]:
        """Nodes after those they read from, else in the order they were given."""
        waiting = {
            node: {source for source, _ in wires.values()} for node, wires in self.wires.items()
        }
        order: list[str] = []
        while waiting:
            ready = next((node for node, sources in waiting.items() if not sources), None)
            if ready is None:
                cycle = _cycle(waiting)
                raise InputError(
                    f"the pipeline has a cycle: {' -> '.join(cycle)}",
                    fix="leave an edge out; a model's own loop is its declared state, or a "
                    "callable that calls it (calls=)",
                )
            del waiting[ready]
            for sources in waiting.values():
                sources.discard(ready)
            order.append(ready)
        return tuple(order)

    def _free_inputs(self) -> tuple[str, ...]:
        free: list[str] = []
        for node in self.order:
            names = (
                [spec.name for spec in self.models[node].inputs]
                if node in self.models
                else [p for p in self.tasks[node].parameters if f"{node}.{p}" not in self.calls]
            )
            free += [f"{node}.{name}" for name in names if name not in self.wires[node]]
        return tuple(free)

    def optional(self, full: str) -> bool:
        """Whether an input may be left out: of a model an optional one, of a callable one with a
        default."""
        node, _, name = full.partition(".")
        if node in self.tasks:
            return name not in self.tasks[node].required
        return self._spec(self.models[node].inputs, name).kind == "optional"

    def __repr__(self) -> str:
        return f"Pipeline({' -> '.join(self.order)})"


class in_node:  # noqa: N801 - reads as a statement
    """Name the node in every DioeError that passes."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DioeError):
            place = f"node {self.name!r}"
            if not error.place.startswith(place):
                error.place = f"{place}: {error.place}" if error.place else place


def full_names(names: Iterable[str]) -> dict[str, str]:
    """Each full name, ``node.value``, under itself and, where unique, under ``value`` alone."""
    names = list(names)
    bare: dict[str, list[str]] = {}
    for full in names:
        bare.setdefault(full.partition(".")[2], []).append(full)
    known = {value: fulls[0] for value, fulls in bare.items() if len(fulls) == 1}
    return {**known, **{full: full for full in names}}


def near(name: Any, known: Iterable[str]) -> str:
    """A hint at names like ``name``, for the ``fix`` of an error."""
    known = list(known)
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[close[0]]!r}? " if close else ""
    return f"{hint}there are: {', '.join(known) or 'none'}"


def _listed(values: Any, what: str) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{what} is {values!r:.60}", fix=f"give a list; {_WRITE_EDGE}")
    return list(values)


def _clash(gives: TensorSpec, takes: TensorSpec) -> str:
    """Why a value can never be an input; empty if it may."""
    if gives.kind != takes.kind:
        return f"a {gives.kind} is given where a {takes.kind} is taken"
    unknown = gives.shape is None and gives.dtype.kind == "O"  # the model says nothing of it
    if gives.dtype != takes.dtype and not unknown:
        return "the types differ"
    if gives.kind != "tensor" or gives.shape is None or takes.shape is None:
        return ""
    if len(gives.shape) != len(takes.shape):
        return "the ranks differ"
    for left, right in zip(gives.shape, takes.shape, strict=True):
        if isinstance(left, int) and isinstance(right, int) and left != right:
            return "the shapes differ"
    return ""


def _cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """Nodes of a cycle in the order that values take, the first again at the end."""
    path = [next(iter(waiting))]
    while True:
        source = next(each for each in waiting[path[-1]] if each in waiting)
        if source in path:
            return [source, *reversed(path[path.index(source) :])]
        path.append(source)
