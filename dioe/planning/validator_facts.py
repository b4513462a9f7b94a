"""What follows from a problem and a schedule of it, for the validator: worked out anew.

No code of schedulers, simulator, timeline, lifetimes or memory is used, only their data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dioe.planning.problem import BlockNode, ContextKey, Line, Problem, TargetCosts
from dioe.planning.schedule import Schedule
from dioe.planning.simulator import PlacedStage


@dataclass(frozen=True, slots=True)
class Run:
    """A block in its stage. Times in ms."""

    block: BlockNode
    stage: int
    costs: TargetCosts
    start: float
    end: float

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.costs.target.device


def _ms(line: Line, nbytes: float) -> float:
    return line.fixed_ms + line.ms_per_byte * nbytes


class Parts:
    """What a stage is made of, as the problem has it. Times in ms."""

    def __init__(self, problem: Problem, facts: Facts, number: int, stage: PlacedStage) -> None:
        targets = problem.targets
        where = dict(zip(stage.blocks, stage.targets, strict=True))
        made_by = {value: name for name in where for value in facts.nodes[name].gives}
        self.dispatch = targets[stage.targets[0]].dispatch_ms
        self.blocks = {name: targets[target].blocks[name].ms for name, target in where.items()}
        self.entries: dict[str, float] = {}
        self.exits: dict[str, float] = {}
        self.switch = 0.0
        for name, target in where.items():
            costs = targets[target]
            for value, nbytes in facts.nodes[name].reads.items():
                if value in made_by:
                    if where[made_by[value]] != target:
                        self.switch += _ms(problem.switch, nbytes)
                elif value not in self.entries:
                    ms = _ms(costs.entry, nbytes)
                    if facts.first_with[value, costs.context] >= number:
                        ms += _ms(costs.copy_in, nbytes)
                    self.entries[value] = ms
        for value, name in made_by.items():
            costs, users = targets[where[name]], facts.users.get(value, [])
            lasting = value in facts.lasting
            if lasting or any(user not in where for user in users):
                nbytes = facts.nodes[name].gives[value]
                ms = _ms(costs.exit, nbytes)
                if lasting or any(facts.contexts[user] != costs.context for user in users):
                    ms += _ms(costs.copy_out, nbytes)
                self.exits[value] = ms

    @property
    def before(self) -> float:
        """What lies before the first block."""
        return self.dispatch + sum(self.entries.values())

    @property
    def total(self) -> float:
        """From the stage's start to its end."""
        return self.before + sum(self.blocks.values()) + sum(self.exits.values()) + self.switch


class Facts:
    """A placement with its timeline, and what follows from them."""

    def __init__(self, problem: Problem, schedule: Schedule) -> None:
        self.problem = problem
        self.schedule = schedule
        self.timeline = schedule.simulation
        self.stages = tuple(zip(schedule.placement.stages, self.timeline.stages, strict=True))
        ends = [s.end_ms for s in self.timeline.stages]
        self.end = max(ends + [t.end_ms for t in self.timeline.transfers], default=0.0)
        self.eps = 1e-9 * max(self.end, 1e-3)
        self.nodes = {block.id: block for block in problem.blocks}
        self.links = {(link.source, link.destination): link for link in problem.links}
        self.lasting = frozenset(problem.outputs)
        self.users: dict[str, list[str]] = {}
        for block in problem.blocks:
            for value in block.reads:
                self.users.setdefault(value, []).append(block.id)
        self.contexts: dict[str, ContextKey] = {}
        self.first_with: dict[tuple[str, ContextKey], int] = {}
        """The first stage in whose memory a value is."""
        for number, (stage, _) in enumerate(self.stages):
            for name, target in zip(stage.blocks, stage.targets, strict=True):
                context = self.contexts[name] = problem.targets[target].context
                for value in (*self.nodes[name].reads, *self.nodes[name].gives):
                    self.first_with.setdefault((value, context), number)
        self.parts = [Parts(problem, self, n, stage) for n, (stage, _) in enumerate(self.stages)]
        self.runs = dict(self._runs())
        self.maker = {value: self.runs[b.id] for b in problem.blocks for value in b.gives}
        self.size: dict[str, float] = {}
        for block in problem.blocks:
            for value, nbytes in block.reads.items():
                if value not in self.maker:  # of an input only its readers know the size
                    self.size[value] = max(self.size.get(value, 0.0), nbytes)
            self.size.update(block.gives)

    def _runs(self) -> Iterator[tuple[str, Run]]:
        """Blocks run one after the other, behind their stage's dispatch and what it reads."""
        for number, (stage, simulated) in enumerate(self.stages):
            clock = simulated.start_ms + self.parts[number].before
            for name, target in zip(stage.blocks, stage.targets, strict=True):
                costs = self.problem.targets[target]
                start, clock = clock, clock + costs.blocks[name].ms
                yield name, Run(self.nodes[name], number, costs, start, clock)

    def device(self, number: int) -> str:
        """Where a stage runs."""
        return self.problem.targets[self.stages[number][0].targets[0]].target.device

    def context(self, number: int) -> ContextKey:
        """What a stage runs in."""
        return self.contexts[self.stages[number][0].blocks[0]]

    def source(self, value: str) -> tuple[str, float]:
        """Where a value is first, and from when on: what a stage makes leaves it at its end."""
        if value not in self.maker:
            return self.problem.home, 0.0
        number = self.maker[value].stage
        return self.device(number), self.stages[number][1].end_ms

    def readers(self, value: str) -> Iterator[Run]:
        """The blocks that read a value."""
        return (self.runs[name] for name in self.users.get(value, []))

    def crossing(self, value: str, source: str, destination: str) -> tuple[float, str]:
        """How long a value is on its way, and in which queue."""
        link = self.links.get((source, destination))
        ms = _ms(link.cost, self.size[value]) if link is not None else 0.0
        queue = ""
        if link is not None and link.queue is not None:
            queue = link.queue or f"{source} to {destination}"
        return self.problem.edge_ms.get(value, ms), queue
