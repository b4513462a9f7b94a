"""Orders of blocks worth cutting into stages.

A stage is a run of consecutive blocks of an order, so the order decides which blocks can share one:
branches have to lie together, or blocks that want one target.
"""

from __future__ import annotations

from collections.abc import Sequence

from dioe.planning.problem import Problem

Order = tuple[int, ...]

MAX_ORDERS = 12
"""A graph with no more topological orders than this is planned over all of them."""


def block_orders(problem: Problem, *, most: int = MAX_ORDERS) -> list[Order]:
    """Topological orders of the blocks (by position), at most ``most``.

    All there are if these aren't more; a chain has one. Else the problem's own; depth first from
    the inputs and from the outputs, so that branches lie together, from either side; and
    for each group of targets one that starts with it and stays, as long as it can, with blocks that
    are cheapest on the group of the block before.
    """
    after = _successors(problem)
    before = _reversed(after)
    found = _all_orders(after, before, most)
    if found is not None:
        return found
    count = len(after)
    orders: list[Order] = [tuple(range(count))]
    for backwards in (False, True):
        orders.append(depth_first(after, before, backwards=backwards))
        orders.append(depth_first(before, after, backwards=backwards)[::-1])
    wanted = _cheapest_groups(problem)
    for group in sorted(set(wanted)):
        orders.append(_staying(after, before, wanted, group))
    return list(dict.fromkeys(orders))[:most]


def _successors(problem: Problem) -> list[list[int]]:
    found: list[set[int]] = [set() for _ in problem.blocks]
    for value, source in problem.producers.items():
        found[source].update(problem.readers.get(value, ()))
    return [sorted(users) for users in found]


def _reversed(after: Sequence[Sequence[int]]) -> list[list[int]]:
    before: list[list[int]] = [[] for _ in after]
    for source, users in enumerate(after):
        for user in users:
            before[user].append(source)
    return before


def _all_orders(
    after: Sequence[Sequence[int]], before: Sequence[Sequence[int]], most: int
) -> list[Order] | None:
    """Every topological order; None if there are more than ``most``."""
    waits = [len(sources) for sources in before]
    found: list[Order] = []
    order: list[int] = []
    # choices[depth] holds the blocks that are still to be tried at that depth
    choices = [[i for i, left in enumerate(waits) if not left]]
    ready = [set(choices[0])]
    while choices:
        if len(order) == len(choices):  # back from the depth below: take the block away again
            for user in after[order.pop()]:
                waits[user] += 1
        if not choices[-1]:
            choices.pop()
            ready.pop()
            continue
        block = choices[-1].pop(0)
        order.append(block)
        free = ready[-1] - {block}
        for user in after[block]:
            waits[user] -= 1
            if not waits[user]:
                free.add(user)
        if len(order) == len(after):
            found.append(tuple(order))
            if len(found) > most:
                return None
        choices.append(sorted(free))
        ready.append(free)
    return found


def depth_first(
    after: Sequence[Sequence[int]], before: Sequence[Sequence[int]], *, backwards: bool
) -> Order:
    """Reverse postorder of a depth-first walk: branches one after the other."""
    step = -1 if backwards else 1
    seen = [False] * len(after)
    finished: list[int] = []
    for start in [i for i, sources in enumerate(before) if not sources][::step]:
        stack = [(start, iter(after[start][::step]))]
        seen[start] = True
        while stack:
            block, users = stack[-1]
            fresh = next((user for user in users if not seen[user]), None)
            if fresh is None:
                finished.append(block)
                stack.pop()
            else:
                seen[fresh] = True
                stack.append((fresh, iter(after[fresh][::step])))
    return tuple(reversed(finished))


def _cheapest_groups(problem: Problem) -> list[int]:
    """The group of targets on which each block is cheapest by itself."""
    wanted = []
    for block in problem.blocks:
        costs = [
            (target.blocks[block.id].ms, problem.group_of[i])
            for i, target in enumerate(problem.targets)
            if block.id in target.blocks
        ]
        wanted.append(min(costs)[1])
    return wanted


def _staying(
    after: Sequence[Sequence[int]],
    before: Sequence[Sequence[int]],
    wanted: Sequence[int],
    group: int,
) -> Order:
    """Greedy: of the blocks that are ready the newest that wants the current group, else the
    newest, whose group is then the current one."""
    waits = [len(sources) for sources in before]
    ready = [i for i, left in enumerate(waits) if not left][::-1]
    order: list[int] = []
    while ready:
        block = next((b for b in reversed(ready) if wanted[b] == group), ready[-1])
        group = wanted[block]
        ready.remove(block)
        order.append(block)
        for user in reversed(after[block]):
            waits[user] -= 1
            if not waits[user]:
                ready.append(user)
    return tuple(order)
