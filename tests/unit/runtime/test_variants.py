"""The bookkeeping of variants: what is found for which shapes, and what goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from dioe.graph import Model
from dioe.runtime import Runtime, Variant, load
from dioe.runtime.variants import MAX_UNTUNED_VARIANTS, ShapeKey, Variants, unmeasured
from dioe.types import Basis, BlockReport, Boundary, TargetReport, Tradeoff
from tests.toys import models
from tests.toys.backend import ToyBackend, registry_of
from tests.toys.plans import plan_for


class Maker:
    """Variants of the dense model for any number of rows; None leaves it open."""

    def __init__(self) -> None:
        self.model = Model.load(models.dense())
        self.runtime = Runtime(registry_of(ToyBackend()))

    def __call__(self, n: int | None) -> Variant:
        shapes = {"x": (n, 8)} if n is not None else {}
        bound = self.model.with_shapes(shapes)
        plan = plan_for(self.model, "cpu/toy/fp32", shapes or None)
        return Variant(load(plan, bound, self.runtime, {plan.stages[0].name: bound}))


@pytest.fixture
def make() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    maker.runtime.close()


def key(n: int) -> ShapeKey:
    return ((n, 8),)


def test_the_key_is_the_shapes_of_tensor_inputs(make: Maker) -> None:
    variants = Variants(make.model.inputs, [make(4)])
    assert variants.key({"x": np.zeros((3, 8), np.float32)}) == key(3)


def test_exact_ones_come_before_untuned_before_dynamic(make: Maker) -> None:
    tuned, untuned, prepared = make(4), make(5), make(5)
    variants = Variants(make.model.inputs, [tuned])
    assert variants.find(key(4)) is tuned
    assert variants.find(key(5)) is None
    variants.dynamic = make(None)
    assert variants.find(key(5)) is variants.dynamic
    assert not variants.add_untuned(key(5), untuned, spare=set())
    assert variants.find(key(5)) is untuned
    assert not variants.has(key(5))
    assert variants.publish(key(5), prepared, spare=set()) == [untuned]
    assert untuned.retired
    assert variants.find(key(5)) is prepared
    assert variants.has(key(5))
    assert list(variants) == [tuned, variants.dynamic, prepared]


def test_a_tuned_one_that_takes_all_shapes_is_the_dynamic_one(make: Maker) -> None:
    tuned = make(None)
    variants = Variants(make.model.inputs, [tuned])
    assert variants.find(key(5)) is tuned
    assert list(variants) == [tuned]


def test_the_eldest_prepared_one_goes(make: Maker) -> None:
    variants = Variants(make.model.inputs, [make(4)], most_prepared=2)
    assert variants.eldest() is None
    made = {n: make(n) for n in (1, 2, 3, 5)}
    for use, n in enumerate((1, 2)):
        made[n].last_use = use
        assert not variants.publish(key(n), made[n], spare=set())
    assert variants.eldest() == key(1)
    assert variants.publish(key(3), made[3], spare=set()) == [made[1]]
    assert variants.publish(key(5), made[5], spare={id(made[2]), id(made[3])}) == [made[5]]
    assert made[5].retired
    assert variants.find(key(5)) is None
    assert [v for v in variants if not v.retired] == list(variants)


def test_room_counts_what_is_coming(make: Maker) -> None:
    variants = Variants(make.model.inputs, [make(4)], most_prepared=2)
    assert variants.eldest(1) is None
    assert variants.eldest(2) == ()


def test_the_first_of_two_with_the_same_shapes_stays(make: Maker) -> None:
    first = make(4)
    variants = Variants(make.model.inputs, [first, make(4)])
    second = make(4)
    assert variants.publish(key(4), second, spare=set()) == [second]
    other = make(5)
    assert not variants.publish(key(5), other, spare=set())
    assert variants.find(key(4)) is first
    again = make(5)
    assert variants.publish(key(5), again, spare=set()) == [again]
    assert variants.find(key(5)) is other


def test_untuned_ones_are_bounded(make: Maker) -> None:
    variants = Variants(make.model.inputs, [make(4)])
    made = [make(n + 10) for n in range(MAX_UNTUNED_VARIANTS + 1)]
    removed = []
    for use, variant in enumerate(made):
        variant.last_use = use
        spare = {id(made[0])}
        removed += variants.add_untuned(key(use + 10), variant, spare=spare)
    assert removed == [made[1]]


def test_an_unmeasured_plan_keeps_the_stages_and_nothing_that_was_found_out(make: Maker) -> None:
    plan = replace(
        plan_for(make.model, "cpu/toy/fp32", {"x": (4, 8)}),
        predicted_ms=1.0,
        relative_l2=0.1,
        basis=Basis.MEASURED,
        blocks=(BlockReport("b", "matmul", (), "s0", "cpu/toy/fp32"),),
        tradeoffs=(Tradeoff("all", 1, 0.1, 1.0),),
        boundaries=(Boundary("v", "s0", "s1", 12, 0.1),),
        candidates=(TargetReport("cpu/toy/fp32", "ok"),),
    )
    other = unmeasured(plan, {"x": (5, 8)}, "why")
    assert other.shapes == {"x": (5, 8)}
    assert other.notes == ("why",)
    assert other.basis is Basis.DEFAULT
    assert other.stages[0].resources.spin is False
    assert other.stages[0].target == plan.stages[0].target
    assert other.boundaries == (Boundary("v", "s0", "s1"),)
    assert (other.predicted_ms, other.relative_l2) == (None, None)
    assert (other.blocks, other.tradeoffs, other.candidates) == ((), (), ())
