"""A coarse problem: its blocks are clusters of another problem's blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dioe.planning.assigned import Assigned
from dioe.planning.coarsening.graph import Ints
from dioe.planning.memory import value_bytes
from dioe.planning.problem import BlockNode, Cost, Problem, TargetCosts
from dioe.planning.tables import Tables
from dioe.types import Basis


class CoarseTables(Tables):
    """The tables of a problem of clusters, which any search may work on.

    Times and weights of a cluster are its blocks' added up, by target; it runs where all of them
    run. Values that go from one cluster to the same others are one, with the bytes and, where all
    links are alike, the latencies of all. ``fine`` are the tables of the blocks, ``cluster_of`` is
    each block's cluster.
    """

    def __init__(self, fine: Tables, cluster_of: Ints) -> None:
        self.fine = fine
        self.cluster_of: list[int] = cluster_of.tolist()
        super().__init__(_problem(fine, self.cluster_of))

    def expand(self, assigned: Assigned) -> Assigned:
        """The same for the blocks: each where its cluster is, one cluster after the other."""
        turn = [0] * self.n
        for at, cluster in enumerate(assigned.order):
            turn[cluster] = at
        turns = [turn[cluster] for cluster in self.cluster_of]
        order = sorted(range(self.fine.n), key=turns.__getitem__)  # stable: else as they were
        first: dict[int, int] = {}
        for i, cluster in enumerate(self.cluster_of):
            first.setdefault(cluster, i)
        return Assigned(
            [assigned.targets[cluster] for cluster in self.cluster_of],
            order,
            frozenset(first[cluster] for cluster in assigned.cuts),
        )


def _problem(fine: Tables, cluster_of: Sequence[int]) -> Problem:
    problem = fine.problem
    members: list[list[int]] = [[] for _ in range(max(cluster_of) + 1)]
    for i, cluster in enumerate(cluster_of):
        members[cluster].append(i)
    values = _Values(fine, cluster_of, len(members))
    ids = [f"c{c}" for c in range(len(members))]
    groups = [
        min((problem.blocks[i].group for i in each if problem.blocks[i].group), default="")
        for each in members
    ]
    blocks = tuple(
        BlockNode(ids[c], "cluster", (ids[c],), values.reads[c], values.gives[c], 0, groups[c])
        for c in range(len(members))
    )
    return replace(
        problem,
        blocks=blocks,
        targets=tuple(
            _costs(fine, t, costs, members, ids) for t, costs in enumerate(problem.targets)
        ),
        outputs=tuple(values.outputs),
        inputs=tuple(values.inputs),
        edge_ms=values.edge_ms,
    )


def _costs(
    fine: Tables, t: int, costs: TargetCosts, members: Sequence[Sequence[int]], ids: Sequence[str]
) -> TargetCosts:
    """What the clusters cost on a target."""
    blocks = fine.problem.blocks
    times, weights, workspaces = {}, {}, {}
    for name, each in zip(ids, members, strict=True):
        ms = sum(fine.ms[i][t] for i in each)
        if ms < math.inf:
            times[name] = Cost(ms, Basis.DEFAULT)
        weights[name] = math.ceil(sum(fine.weights[i][t] for i in each))
        inside = max(
            value_bytes(costs, blocks[i])
            if len(each) > 1
            else float(costs.workspace_bytes.get(blocks[i].id, 0))
            for i in each
        )
        if inside:
            workspaces[name] = math.ceil(inside)
    return replace(costs, blocks=times, weight_bytes=weights, workspace_bytes=workspaces)


class _Values:
    """What clusters read and give, values of the same ends as one."""

    def __init__(self, fine: Tables, cluster_of: Sequence[int], count: int) -> None:
        self.reads: list[dict[str, int]] = [{} for _ in range(count)]
        self.gives: list[dict[str, int]] = [{} for _ in range(count)]
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.edge_ms: dict[str, float] = {}
        uniform = _uniform_way(fine)
        fixed = _fixed(fine)
        for (maker, readers, out), values in _ends(fine, cluster_of).items():
            name = f"v{values[0]}"
            nbytes = int(sum(fine.nbytes[v] for v in values))
            (self.inputs if maker < 0 else self.outputs if out else []).append(name)
            if maker >= 0:
                self.gives[maker][name] = nbytes
            for reader in readers:
                self.reads[reader][name] = nbytes
            known = [fixed[v] for v in values if v in fixed]
            if len(known) == len(values):
                self.edge_ms[name] = sum(known)
            elif uniform is not None and (known or (len(values) > 1 and uniform[0])):
                self.edge_ms[name] = sum(
                    fixed[v] if v in fixed else uniform[0] + uniform[1] * fine.nbytes[v]
                    for v in values
                )


_Ends = tuple[int, tuple[int, ...], bool]


def _ends(fine: Tables, cluster_of: Sequence[int]) -> Mapping[_Ends, list[int]]:
    """Values by the cluster that makes them (-1: inputs), those that read them, and whether they
    are outputs of the model."""
    readers: dict[int, set[int]] = {}
    for i, row in enumerate(fine.preds):
        cluster = cluster_of[i]
        for source, value in row:
            if cluster_of[source] != cluster:
                readers.setdefault(value, set()).add(cluster)
    for i, inputs in enumerate(fine.inputs):
        for value in inputs:
            readers.setdefault(value, set()).add(cluster_of[i])
    outputs = set(fine.outputs)
    found: dict[_Ends, list[int]] = {}
    for value in sorted(readers.keys() | outputs):
        maker = fine.maker[value]
        ends = (
            cluster_of[maker] if maker >= 0 else -1,
            tuple(sorted(readers.get(value, ()))),
            value in outputs,
        )
        found.setdefault(ends, []).append(value)
    return found


def _fixed(fine: Tables) -> Mapping[int, float]:
    """Values whose transfer takes a time of its own."""
    return fine.problem.network.fixed


def _uniform_way(fine: Tables) -> tuple[float, float] | None:
    """What a transfer takes between any two devices, in ms and ms by byte, if it's all the same."""
    net = fine.problem.network
    devices = range(len(net.devices))
    found = {
        (way.fixed_ms, way.ms_per_byte) if way is not None else (0.0, 0.0)
        for way in (net.ways.get((a, b)) for a in devices for b in devices if a != b)
    }
    return found.pop() if len(found) == 1 else None
