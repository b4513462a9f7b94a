"""Plans: which stage runs where, in which precision, and why."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dioe.types.devices import KnownAs, Resources
from dioe.types.targets import Precisions, Target
from dioe.types.values import Dim

if TYPE_CHECKING:
    import networkx as nx


class Basis(enum.StrEnum):
    """What a cost rests on."""

    MEASURED = "measured"
    CORRECTED = "corrected"  # measured alone or in a whole, and corrected for its surroundings
    PREDICTED = "predicted"
    MODELLED = "modelled"  # timed on a device that is a descriptor only: computed, not measured
    DEFAULT = "default"  # no cost known: a sensible choice without measuring


@dataclass(frozen=True, slots=True)
class Stage:
    """A convex subgraph given to one backend on one device; compiled once.

    ``ops`` are op ids in topological order, ``inputs`` and ``outputs`` value names of the model.
    """

    name: str
    target: Target
    ops: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precisions: Precisions = field(default_factory=Precisions)
    resources: Resources = field(default_factory=Resources)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    predicted_ms: float | None = None
    basis: Basis = Basis.DEFAULT


@dataclass(frozen=True, slots=True)
class Boundary:
    """A value that goes from one stage to another: transfer, conversion and dispatch."""

    value: str
    source: str
    destination: str
    nbytes: int | None = None
    predicted_ms: float | None = None


@dataclass(frozen=True, slots=True)
class TargetReport:
    """What became of one candidate target, with the figures behind it. Times in ms.

    ``known_as`` is ``modelled`` where a device of it is: then its times are computed, and its
    outputs were compared with nothing.
    """

    target: str
    state: str  # ok | unsupported | infidel | slow | failed
    reason: str = ""
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    spread_ms: float | None = None  # between the medians of the rounds
    runs: int = 0
    relative_l2: float | None = None
    noisy: bool = False
    known_as: KnownAs = KnownAs.HARDWARE


@dataclass(frozen=True, slots=True)
class BlockReport:
    """Where one block of ops was placed, and why. Times in ms.

    ``difference_ms`` is what the whole plan would lose with this block on ``runner_up``, boundaries
    and precision changes included; ``reason`` says what decided it. ``least_ms`` is the block's
    cost on the target where it is cheapest.
    """

    block: str
    kind: str
    ops: tuple[str, ...]
    stage: str
    target: str
    cost_ms: float | None = None
    basis: Basis = Basis.DEFAULT
    runs: int = 0
    runner_up: str = ""
    difference_ms: float | None = None
    reason: str = ""
    least_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """One point of the curve of error against latency: what was lowered, and what came of it."""

    description: str
    lowered_ops: int
    relative_l2: float
    latency_ms: float
    basis: Basis = Basis.PREDICTED


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages, their targets and order, what each is predicted to cost, and why it was chosen.

    Bound to the canonical model's hash, the rewrites applied to it, the input shapes, and the
    hardware it was made for. Order of ``stages`` is the order of execution on one lane.
    """

    FORMAT: ClassVar[str] = "dioe-plan"
    VERSION: ClassVar[int] = 1

    model_sha256: str
    hardware: str
    stages: tuple[Stage, ...]
    boundaries: tuple[Boundary, ...] = ()
    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    policy: str = "latency"
    precision: str = "fp32"
    max_relative_l2: float | None = None
    relative_l2: float | None = None
    predicted_ms: float | None = None
    basis: Basis = Basis.DEFAULT
    candidates: tuple[TargetReport, ...] = ()
    blocks: tuple[BlockReport, ...] = ()
    tradeoffs: tuple[Tradeoff, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The distinct targets, in the order of the stages."""
        return tuple(dict.fromkeys(str(stage.target) for stage in self.stages))

    @property
    def bound_ms(self) -> float | None:
        """What no placement of the blocks on one lane can be below, by what they cost where each is
        cheapest; None where that isn't known of all."""
        least = [block.least_ms for block in self.blocks]
        known = [ms for ms in least if ms is not None]
        return sum(known) if known and len(known) == len(least) else None

    @property
    def stand_ins(self) -> Mapping[str, KnownAs]:
        """How devices are known in whose stead something else computed, by id: times there aren't
        measured on them, whatever they rest on. As far as single targets were candidates."""
        found = {}
        for report in self.candidates:
            device, _, rest = report.target.partition("/")
            alone = bool(rest) and " -> " not in rest
            if alone and report.known_as in (KnownAs.SIMULATED, KnownAs.CONTRACT):
                found[device] = report.known_as
        return found

    def basis_text(self, stage: Stage | None = None) -> str:
        """What the cost of the plan, or of one stage, rests on, in a word: ``contract`` or
        ``simulated`` instead of ``measured`` where that is how a device of it is known."""
        basis = self.basis if stage is None else stage.basis
        used = {s.target.device for s in (self.stages if stage is None else (stage,))}
        words = [word for device, word in self.stand_ins.items() if device in used]
        timed = basis in (Basis.MEASURED, Basis.CORRECTED)
        return str(min(words) if words and timed else basis)

    @property
    def graph(self) -> nx.DiGraph[str]:
        """The stage graph: ``stage`` nodes, and a ``transfer`` node for every boundary."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph(model=self.model_sha256)
        for stage in self.stages:
            graph.add_node(stage.name, kind="stage", stage=stage)
        for edge in self.boundaries:
            node = f"{edge.source}>{edge.destination}:{edge.value}"
            graph.add_node(node, kind="transfer", boundary=edge)
            graph.add_edge(edge.source, node)
            graph.add_edge(node, edge.destination)
        return graph

    def to_json(self) -> str:
        """A readable, versioned text; ``dioe.load_plan`` reads it back."""
        data = {"format": self.FORMAT, "version": self.VERSION} | self.to_data()
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

    def to_data(self) -> dict[str, Any]:
        """As plain data, targets by their names."""
        data = asdict(self)
        for written, stage in zip(data["stages"], self.stages, strict=True):
            written["target"] = str(stage.target)
        return data

    def explain(self) -> str:
        """Why this plan: every candidate with its figures, best first; how many blocks went to
        which target; the curve of error against latency."""
        return "\n".join(_explain(self)) + "\n"


def _explain(plan: Plan) -> list[str]:
    cost = "not measured" if plan.predicted_ms is None else f"{plan.predicted_ms:.3f} ms"
    lines = [f"plan: {' -> '.join(plan.targets)}, {cost} ({plan.basis_text()})"]
    best = min((c.p50_ms for c in plan.candidates if c.state == "ok" and c.p50_ms), default=None)
    for c in sorted(plan.candidates, key=lambda c: (c.state != "ok", c.p50_ms or float("inf"))):
        parts = [f"  {c.target}: {c.state}"]
        if c.p50_ms is not None:
            known_as = "" if c.known_as == KnownAs.HARDWARE else f" {c.known_as}"
            ratio = f" (x{c.p50_ms / best:.2f})" if best else ""
            parts.append(f"{c.p50_ms:.3f} ms{known_as}{ratio}")
            parts.append(f"n={c.runs}" + (", noisy" if c.noisy else ""))
        if c.relative_l2 is not None:
            parts.append(f"error {c.relative_l2:.2g}")
        lines.append(", ".join(parts) + (f"; {c.reason}" if c.reason else ""))
    placed: dict[str, list[float]] = {}
    for block in plan.blocks:
        placed.setdefault(block.target, []).append(block.cost_ms or 0.0)
    for target, costs in sorted(placed.items(), key=lambda item: -sum(item[1])):
        lines.append(
            f"  blocks on {target}: {len(costs)} of {len(plan.blocks)}, {sum(costs):.3f} ms"
        )
    for t in plan.tradeoffs:
        figures = f"error {t.relative_l2:.2g}, {t.latency_ms:.3f} ms ({t.basis})"
        lines.append(f"  choice: {figures}, {t.lowered_ops} ops lowered; {t.description}")
    return lines + [f"  note: {note}" for note in plan.notes]
