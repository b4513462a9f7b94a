"""What is to be placed on devices that aren't here: a model's blocks, or those of a pipeline's
models and its Python steps, with all that costs are computed from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dioe.graph import Block, Kernel, Model, OpGraph, Source, find_blocks, find_kernels, make_inputs
from dioe.planning import BlockNode, block_nodes
from dioe.precision import written_precisions
from dioe.runtime import Pipeline, in_node, near
from dioe.types import Dim, InputError, Precision

STEP = "python"
"""The kind of a Python step's block, and the backend of its targets."""


ANY_BACKEND = "*"
"""The backend of targets whose figures are of the device alone."""


@dataclass(frozen=True)
class ModelPart:
    """One model: its kernels and its blocks, and these as ``nodes`` of the whole, in one order.

    ``weights`` are the elements and bytes of each block's own weights; what several blocks share
    counts for the first. It runs ``runs`` times for each request. ``unknown`` are the ops of which
    not all work is known.
    """

    name: str
    graph: OpGraph
    blocks: tuple[Block, ...]
    kernels: tuple[Kernel, ...]
    nodes: tuple[BlockNode, ...]
    weights: tuple[tuple[tuple[int, int], ...], ...]
    runs: int
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """Blocks in a topological order, the models that they are of, and what goes in and comes out.

    ``steps`` are the ids of the blocks that are Python steps, by the step's name: one that calls a
    model is two, before and after it. ``shapes`` are those that inputs were bound to.
    """

    name: str
    nodes: tuple[BlockNode, ...]
    models: tuple[ModelPart, ...]
    steps: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()

    @cached_property
    def quantised(self) -> bool:
        """Whether parts of a model are quantised already."""
        return any(part.graph.model.quantised for part in self.models)

    @cached_property
    def written(self) -> frozenset[Precision]:
        """The precisions below fp32 that parts of a model are written in."""
        found = (written_precisions(part.graph.model) for part in self.models)
        return frozenset().union(*found)


def work_of(
    model: Source | Pipeline,
    shapes: Mapping[str, Sequence[int]] | None = None,
    runs: Mapping[str, int] | None = None,
) -> Work:
    """What a model or a pipeline is made of.

    ``shapes`` bind inputs (of a pipeline ``node.input``), open dimensions get assumed sizes.
    ``runs`` says how often a model of a pipeline runs for each request, once where it doesn't.
    Raises ModelError and InputError as ``dioe.types`` describes them.
    """
    if isinstance(model, Pipeline):
        return _Wiring(model, shapes or {}, runs or {}).work()
    if runs:
        raise InputError("runs are of a pipeline's models", place="runs", fix="leave it out")
    loaded = Model.load(model)
    part, bound = _part("", loaded, {n: tuple(s) for n, s in (shapes or {}).items()}, 1)
    if not part.nodes:
        raise InputError("the model has no ops to place", place=loaded.place,
                         fix="name a model that computes something")  # fmt: skip
    return Work(
        name=str(loaded.path or loaded.place or "model"),
        nodes=part.nodes,
        models=(part,),
        steps={},
        inputs=tuple(spec.name for spec in loaded.inputs),
        outputs=tuple(spec.name for spec in loaded.outputs),
        shapes=bound,
    )


def _part(
    name: str, model: Model, shapes: Mapping[str, Sequence[Dim]], runs: int
) -> tuple[ModelPart, dict[str, tuple[int, ...]]]:
    """One model, as if alone, and the shapes of its inputs."""
    feeds = make_inputs(model, shapes)
    bound = {n: v.shape for n, v in feeds.items() if isinstance(v, np.ndarray)}
    graph = OpGraph.build(model, bound)
    blocks, kernels = find_blocks(graph), find_kernels(graph)
    ops = [graph.ops[op] for kernel in kernels for op in kernel.ops]
    unknown = tuple(op.id for op in ops if op.flops is None or op.bytes_written is None)
    nodes = block_nodes(graph, blocks)
    part = ModelPart(name, graph, blocks, kernels, nodes, _weights(graph, blocks), runs, unknown)
    return part, bound


def _weights(graph: OpGraph, blocks: Sequence[Block]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Elements and bytes of the weights that each block is the first to read."""
    left = {
        name: (value.const_value.size, value.const_value.nbytes)
        for name, value in graph.model.ir.graph.initializers.items()
        if value.const_value is not None
    }
    found = []
    for block in blocks:
        used = dict.fromkeys(name for op in block.ops for name in graph.ops[op].reads)
        found.append(tuple(left.pop(name) for name in used if name in left))
    return tuple(found)


class _Wiring:
    """A pipeline's models and Python steps as the blocks of one problem."""

    def __init__(
        self, pipeline: Pipeline, shapes: Mapping[str, Sequence[int]], runs: Mapping[str, int]
    ) -> None:
        self._pipeline = pipeline
        self._shapes = shapes
        self._runs = runs
        self._parts: dict[str, ModelPart] = {}
        self._steps: dict[str, str] = {}
        self._nodes: list[BlockNode] = []
        self._sizes: dict[str, int] = {}
        """Of values between nodes, by full name."""
        self._stands_for: dict[str, str] = {}
        """Outputs of models that are inputs of theirs, or constants (empty)."""
        self._bound: dict[str, tuple[int, ...]] = {}
        self._notes: list[str] = []
        self._check()

    def _check(self) -> None:
        known = set(self._pipeline.models)
        for name, count in self._runs.items():
            if name not in known:
                raise InputError(f"runs of {name!r}, which is no model of the pipeline",
                                 place="runs", fix=near(name, known))  # fmt: skip
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise InputError(f"{name} runs {count!r} times", place="runs", fix="give 1 or more")
        free = {
            f"{node}.{spec.name}"
            for node, model in self._pipeline.models.items()
            for spec in model.inputs
        }
        for name in self._shapes:
            if name not in free:
                raise InputError(f"{name!r} is no input of a model of the pipeline",
                                 place="shapes", fix=near(name, free))  # fmt: skip
        callers: dict[str, list[str]] = {}
        for place, model in self._pipeline.calls.items():
            callers.setdefault(model, []).append(place)
        for model, places in callers.items():
            if len(places) > 1:
                raise InputError(
                    f"{model} is called by {' and by '.join(places)}", place="pipeline",
                    fix="for a modelled plan give each caller a model of its own",
                )  # fmt: skip

    def work(self) -> Work:
        pipeline = self._pipeline
        for node in pipeline.order:
            with in_node(node):
                if node in pipeline.models:
                    wires = {name: ".".join(o) for name, o in pipeline.wires[node].items()}
                    self._add_model(node, wires)
                else:
                    self._add_step(node)
        made = {value for node in self._nodes for value in node.gives}
        read = dict.fromkeys(value for node in self._nodes for value in node.reads)
        models = tuple(self._parts.values())
        return Work(
            name=" -> ".join(pipeline.order),
            nodes=tuple(self._nodes),
            models=models,
            steps=self._steps,
            inputs=tuple(value for value in read if value not in made),
            outputs=tuple(value for value in self._outputs() if value in made),
            shapes=self._bound,
            notes=tuple(self._notes),
        )

    def _outputs(self) -> Iterable[str]:
        """What the pipeline gives: outputs without an edge, and those asked for."""
        pipeline = self._pipeline
        inner = {edge.source for edge in pipeline.edges}
        for node in pipeline.order:
            names = (
                [f"{node}.{spec.name}" for spec in pipeline.models[node].outputs]
                if node in pipeline.models
                else self._given_by(node)
            )
            for name in names:
                if name not in inner or name in pipeline.asked:
                    yield self._stands_for.get(name, name)

    def _given_by(self, step: str) -> list[str]:
        """What a step is known to give: what others read, else one value."""
        named = [e.source for e in self._pipeline.edges] + list(self._pipeline.asked)
        found = dict.fromkeys(name for name in named if name.partition(".")[0] == step)
        return list(found) or [f"{step}.out"]

    def _add_model(self, node: str, wires: Mapping[str, str]) -> None:
        """Its blocks, with values by their full names; ``wires`` lead to its inputs."""
        model = self._pipeline.models[node]
        runs = self._runs.get(node, 1)
        part, bound = _part(node, model, self._own_shapes(node, wires), runs)
        self._bound.update({f"{node}.{name}": shape for name, shape in bound.items()})
        inputs = {spec.name for spec in model.inputs}
        full = {name: f"{node}.{name}" for name in part.graph.values}
        for name in inputs & wires.keys():
            full[name] = self._stands_for.get(wires[name], wires[name])
        given = {name for each in part.nodes for name in each.gives}
        outputs = {spec.name for spec in model.outputs}
        for name in outputs - given:
            self._stands_for[f"{node}.{name}"] = full[name] if name in inputs else ""
        nodes = []
        for each in part.nodes:
            reads = {full[n]: self._sizes.get(full[n], s) for n, s in each.reads.items() if full[n]}
            gives = {full[n]: s * (runs if n in outputs else 1) for n, s in each.gives.items()}
            self._sizes.update(gives)
            nodes.append(
                replace(
                    each, id=f"{node}.{each.id}", reads=reads, gives=gives,
                    group=node if runs > 1 else "",
                )
            )  # fmt: skip
        if runs > 1:
            self._notes.append(
                f"{node} runs {runs} times for each request, all of it on one device"
            )
        self._parts[node] = replace(part, nodes=tuple(nodes))
        self._nodes += nodes

    def _own_shapes(self, node: str, wires: Mapping[str, str]) -> dict[str, Sequence[Dim]]:
        """Shapes of a model's inputs: those given, else those of what edges bring."""
        found: dict[str, Sequence[Dim]] = {}
        for spec in self._pipeline.models[node].inputs:
            given = self._shapes.get(f"{node}.{spec.name}")
            source, _, value = wires.get(spec.name, "").partition(".")
            if given is not None:
                found[spec.name] = tuple(given)
            elif source in self._parts:
                info = self._parts[source].graph.values.get(value)
                if info is not None and info.shape is not None:
                    found[spec.name] = info.shape
        return found

    def _add_step(self, node: str) -> None:
        """A callable: one block, or two with the models that it calls between them."""
        pipeline = self._pipeline
        called = [m for place, m in pipeline.calls.items() if place.partition(".")[0] == node]
        wired = [".".join(origin) for origin in pipeline.wires[node].values()]
        free = [name for name in pipeline.inputs if name.partition(".")[0] == node]
        reads = {name: self._sizes.get(name, 0) for name in self._resolved([*wired, *free])}
        gives = dict.fromkeys(self._given_by(node), 0)
        if not called:
            self._add_block(node, node, reads, gives)
            return
        to_models: dict[str, int] = {}
        for model in called:
            to_models.update(self._passed(node, model))
        self._add_block(node, node, reads, to_models)
        self._sizes.update(to_models)
        before = len(self._nodes)
        for model in called:
            names = (spec.name for spec in pipeline.models[model].inputs)
            self._add_model(model, {name: _passed_name(node, model, name) for name in names})
            if model not in self._runs:
                self._notes.append(
                    f"{node} is taken to call {model} once for each request: give runs for more"
                )
        back = {
            value: size
            for each in itertools.islice(self._nodes, before, None)
            for value, size in each.gives.items()
            if value in {f"{m}.{s.name}" for m in called for s in pipeline.models[m].outputs}
        }
        self._add_block(f"{node} (end)", node, back or to_models, gives)

    def _passed(self, step: str, model: str) -> dict[str, int]:
        """What a step hands to a model that it calls, with the bytes of all its runs."""
        shapes = self._own_shapes(model, {})
        with in_node(model):
            feeds = make_inputs(self._pipeline.models[model], shapes)
        return {
            _passed_name(step, model, name): value.nbytes * self._runs.get(model, 1)
            for name, value in feeds.items()
            if isinstance(value, np.ndarray)
        }

    def _add_block(
        self, block: str, step: str, reads: Mapping[str, int], gives: Mapping[str, int]
    ) -> None:
        self._nodes.append(BlockNode(block, STEP, (), reads, gives))
        self._steps[block] = step

    def _resolved(self, names: Iterable[str]) -> list[str]:
        found = (self._stands_for.get(name, name) for name in names)
        return [name for name in dict.fromkeys(found) if name]


def _passed_name(step: str, model: str, name: str) -> str:
    return f"{step} to {model}.{name}"
