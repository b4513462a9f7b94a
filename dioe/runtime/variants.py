"""The variants of a session: looked up without a lock, changed under the session's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from dioe.runtime.variant import Variant
from dioe.types import Basis, Dim, Feeds, Plan, TensorSpec

ShapeKey: TypeAlias = tuple[tuple[int, ...] | None, ...]
"""Shapes of the tensor inputs, in the model's order. Inputs that are no tensors are left out."""

MAX_SHAPE_VARIANTS = 32
"""Variants kept for shapes that were prepared in the background."""

MAX_UNTUNED_VARIANTS = 16
"""Variants kept for shapes nobody tuned, where a model can't be compiled with open shapes."""


class Variants:
    """Tuned variants, which stay; those prepared for shapes that came; and the safe ones.

    Readers take no lock: every change puts a new dictionary in place of the old one. Whoever
    changes holds the session's lock, and closes what a change gives back after letting go of it.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        tuned: Sequence[Variant],
        *,
        most_prepared: int = MAX_SHAPE_VARIANTS,
    ) -> None:
        self._names = tuple(spec.name for spec in inputs if spec.kind == "tensor")
        self.tuned = tuple(tuned)
        self.dynamic: Variant | None = tuned[0] if tuned[0].guard is None else None
        """Takes every shape that the model allows."""
        self._most_prepared = most_prepared
        self._prepared: Mapping[ShapeKey, Variant] = {}
        self._untuned: Mapping[ShapeKey, Variant] = {}
        self._exact: dict[ShapeKey, Variant] = {}
        for variant in tuned:
            if variant.guard is not None:
                self._exact.setdefault(_guarded(variant), variant)

    def __iter__(self) -> Iterator[Variant]:
        """All that are loaded: tuned ones, the dynamic one, prepared ones, untuned ones."""
        yield from self.tuned
        if self.dynamic is not None and self.dynamic not in self.tuned:
            yield self.dynamic
        yield from self._prepared.values()
        yield from self._untuned.values()

    def key(self, feeds: Feeds) -> ShapeKey:
        """The shapes of checked feeds."""
        return tuple([getattr(feeds[name], "shape", None) for name in self._names])

    def find(self, key: ShapeKey) -> Variant | None:
        """The best variant for these shapes: tuned or prepared, untuned, dynamic; None without."""
        return self._exact.get(key) or self._untuned.get(key) or self.dynamic

    def has(self, key: ShapeKey) -> bool:
        """True if there is a tuned or prepared variant for exactly these shapes."""
        return key in self._exact

    # --- changes, under the session's lock --------------------------------------------------

    def add_untuned(self, key: ShapeKey, variant: Variant, *, spare: set[int]) -> list[Variant]:
        """Add a variant for a shape nobody tuned; gives those to close.

        ``spare`` holds the ``id`` of variants that have to stay.
        """
        kept = {**self._untuned, key: variant}
        removed = []
        if len(kept) > MAX_UNTUNED_VARIANTS:
            idle = [k for k, v in kept.items() if id(v) not in spare and v is not variant]
            if idle:
                removed.append(kept.pop(min(idle, key=lambda k: kept[k].last_use)))
        self._untuned = kept
        return _retired(removed)

    def publish(self, key: ShapeKey, variant: Variant, *, spare: set[int]) -> list[Variant]:
        """Let runs of these shapes use ``variant`` from now on; gives those to close.

        The prepared variant that was chosen for longest ago makes room where there is none; with
        all of them spared, it is ``variant`` itself that has to be closed.
        """
        if key in self._exact:
            return _retired([variant])
        kept = dict(self._prepared)
        removed = []
        if len(kept) >= self._most_prepared:
            idle = [k for k, v in kept.items() if id(v) not in spare]
            if not idle:
                return _retired([variant])
            removed.append(kept.pop(min(idle, key=lambda k: kept[k].last_use)))
        kept[key] = variant
        untuned = dict(self._untuned)
        if key in untuned and id(untuned[key]) not in spare:
            removed.append(untuned.pop(key))
        tuned = {_guarded(v): v for v in reversed(self.tuned) if v.guard is not None}
        self._exact = {**kept, **tuned}
        self._prepared, self._untuned = kept, untuned
        return _retired(removed)

    def eldest(self, coming: int = 0) -> ShapeKey | None:
        """The shape whose prepared variant would go next; None while there is room for one more
        than the ``coming``. Without any prepared one, the empty key."""
        prepared = self._prepared
        if len(prepared) + coming < self._most_prepared:
            return None
        return min(prepared, key=lambda key: prepared[key].last_use, default=())


def _guarded(variant: Variant) -> ShapeKey:
    return tuple(shape for _, shape, _ in variant.guard or ())


def _retired(variants: list[Variant]) -> list[Variant]:
    """The same, retired, so that nobody binds or runs them who finds them a moment too late."""
    for variant in variants:
        variant.retired = True
    return variants


def unmeasured(plan: Plan, shapes: Mapping[str, tuple[Dim, ...]], note: str) -> Plan:
    """The same stages for other shapes: nothing measured, and no spinning next to the tuned ones.

    What was measured, and what was found out block by block, stays with the shapes it is true of.
    """
    stages = tuple(
        replace(
            stage,
            resources=replace(stage.resources, spin=False),
            predicted_ms=None,
            basis=Basis.DEFAULT,
        )
        for stage in plan.stages
    )
    return replace(
        plan,
        stages=stages,
        boundaries=tuple(replace(b, nbytes=None, predicted_ms=None) for b in plan.boundaries),
        shapes=dict(shapes),
        predicted_ms=None,
        relative_l2=None,
        basis=Basis.DEFAULT,
        candidates=(),
        blocks=(),
        tradeoffs=(),
        notes=(note,),
    )
