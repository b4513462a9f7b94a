"""Branches and loops. What decides them is needed on the host, unless it is known beforehand."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch

from .core import Body, Compute, Node, Program, Unsupported, lowers, torch_dtype


def _outputs(node: Node, results: Sequence[Any]) -> Any:
    """Results as the executor takes them."""
    return results[0] if node.n_outputs == 1 else results


@lowers("If", host=(0,), lowered=False)
def _if(node: Node) -> Compute:
    branches = {True: node.body("then_branch"), False: node.body("else_branch")}

    def compute(condition: Any, *captured: Any) -> Any:
        return _outputs(node, branches[bool(condition.reshape(()))]([], captured))

    return compute


# --- Loop ----------------------------------------------------------------------------------------


@lowers("Loop", host=(0, 1), lowered=False)
def _loop(node: Node) -> Compute:
    body, n_given = node.body("body"), node.n_inputs
    program: Program = node.attr("body")
    n_states = body.n_inputs - 2
    goes_on = _condition(program)
    empty = [_nothing(program, i, node) for i in range(1 + n_states, body.n_outputs)]

    def compute(*args: Any) -> Any:
        limit = None if args[0] is None else int(args[0].reshape(()))
        going = n_given < 2 or args[1] is None or bool(args[1].reshape(()))
        states, captured = list(args[2:n_given]), args[n_given:]
        rows: list[list[Any]] = [[] for _ in empty]
        number = 0
        condition = torch.tensor(True)
        while going and (limit is None or number < limit):
            results = body([torch.tensor(number), condition, *states], captured)
            going = goes_on(results[0])
            states = results[1 : 1 + n_states]
            for row, value in zip(rows, results[1 + n_states :]):
                row.append(value)
            number += 1
        scans = [torch.stack(row) if row else nothing() for row, nothing in zip(rows, empty)]
        return _outputs(node, [*states, *scans])

    return compute


def _condition(body: Program) -> Callable[[Any], bool]:
    """Tells from what an iteration says if there is a next one, without looking at it where it says
    the same always: a look at a device's value waits for the device."""
    name = body.outputs[0]
    copied = {op.outputs[0]: op.inputs[0] for op in body.ops if op.type == "Identity"}
    while name in copied:
        name = copied[name]
    if name == body.inputs[1]:
        return lambda _: True  # it was true, or there would have been no iteration
    if name in body.constants:
        known = bool(body.constants[name].data.reshape(()))
        return lambda _: known
    return bool


def _nothing(body: Program, index: int, node: Node) -> Callable[[], torch.Tensor]:
    """What is scanned in no iteration; sizes that nobody knows are 0."""
    name = body.output_dtypes[index] if index < len(body.output_dtypes) else ""
    shape = body.output_shapes[index] if index < len(body.output_shapes) else None
    sizes = [0] + [max(size, 0) for size in shape or ()]

    def made() -> torch.Tensor:
        if not name:
            raise ValueError("a loop without iterations, and scans of unknown type")
        return torch.empty(sizes, dtype=torch_dtype(name), device=node.device)

    return made


# --- Scan ----------------------------------------------------------------------------------------


class _Scan:
    """One walk along the scanned axes."""

    def __init__(self, node: Node, first: int) -> None:
        self.body: Body = node.body("body")
        program: Program = node.attr("body")
        n = int(node.attr("num_scan_inputs"))
        self.n_states = node.n_inputs - first - n
        k = self.body.n_outputs - self.n_states
        self.backward = node.ints("scan_input_directions", node.ints("directions", (0,) * n))
        self.prepended = node.ints("scan_output_directions", (0,) * k)
        self.axes = node.ints("scan_input_axes", (0,) * n)
        self.out_axes = node.ints("scan_output_axes", (0,) * k)
        self._empty = [_nothing(program, self.n_states + i, node) for i in range(k)]

    def walk(
        self,
        states: Sequence[Any],
        scanned: Sequence[torch.Tensor],
        captured: Sequence[Any],
        length: int,
    ) -> tuple[list[Any], list[torch.Tensor]]:
        """The last states, and what was scanned out."""
        columns = [x.unbind(axis) for x, axis in zip(scanned, self.axes)]
        rows: list[list[Any]] = [[] for _ in self._empty]
        for t in range(length):
            elements = [
                column[length - 1 - t if backward else t]
                for column, backward in zip(columns, self.backward)
            ]
            results = self.body([*states, *elements], captured)
            states = results[: self.n_states]
            for row, value in zip(rows, results[self.n_states :]):
                row.append(value)
        scans = []
        for row, nothing, back, axis in zip(rows, self._empty, self.prepended, self.out_axes):
            if row:
                scans.append(torch.stack(row[::-1] if back else row, axis))
            else:
                scans.append(nothing().movedim(0, axis))
        return list(states), scans


@lowers("Scan", since=9, lowered=False)
def _scan(node: Node) -> Compute:
    scan, n_given = _Scan(node, 0), node.n_inputs

    def compute(*args: Any) -> Any:
        scanned = args[scan.n_states : n_given]
        lengths = {x.shape[axis] for x, axis in zip(scanned, scan.axes)}
        if len(lengths) != 1:
            raise ValueError(f"scanned along axes of sizes {sorted(lengths)}")
        states, scans = scan.walk(
            args[: scan.n_states], scanned, args[n_given:], next(iter(lengths))
        )
        return _outputs(node, [*states, *scans])

    return compute


@lowers("Scan", since=8, host=(0,), lowered=False)
def _scan_of_batches(node: Node) -> Compute:
    scan, n_given = _Scan(node, 1), node.n_inputs

    def compute(lengths: Any, *args: Any) -> Any:
        given, captured = args[: n_given - 1], args[n_given - 1 :]
        states, scanned = given[: scan.n_states], given[scan.n_states :]
        size, longest = scanned[0].shape[:2]
        found = []
        for b in range(size):
            length = longest if lengths is None else int(lengths[b])
            parts = [x[b, :length] for x in scanned]
            ends, scans = scan.walk([x[b] for x in states], parts, captured, length)
            found.append([*ends, *(_filled(x, longest) for x in scans)])
        if not found:
            raise Unsupported("Scan of an empty batch")
        return _outputs(node, [torch.stack(each) for each in zip(*found)])

    return compute


def _filled(x: torch.Tensor, size: int) -> torch.Tensor:
    """``x`` with zeros behind it, up to ``size``."""
    return torch.cat([x, x.new_zeros((size - x.shape[0], *x.shape[1:]))])
