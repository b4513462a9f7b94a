"""Which machine to take: the modelled plans of one model on several pools, beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

from dioe.graph import Source
from dioe.hardware import Pool
from dioe.runtime import Pipeline
from dioe.tuning.modelled_plan import ModelledPlan, Search, named_pool, plan_work
from dioe.tuning.modelled_problem import Asked
from dioe.tuning.modelled_work import work_of
from dioe.types import DioeError


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool, as it was named, and its plan; or the reason why there is none."""

    hardware: str
    plan: ModelledPlan | None
    reason: str = ""


def compare_pools(
    model: Source | Pipeline,
    pools: Sequence[str | PathLike[str] | Pool],
    *,
    asked: Asked | None = None,
    search: Search | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    runs: Mapping[str, int] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[PoolRow, ...]:
    """The plans of ``model`` on each pool, the best by the policy first, those without one last.

    What is wrong with one pool is its row's reason. Raises what is wrong with the model, as
    ``dioe.plan`` does.
    """
    work = work_of(model, shapes, runs)
    rows = []
    for each in pools:
        called = (each.name or "a pool") if isinstance(each, Pool) else str(each)
        progress(called)
        try:
            pool, name = named_pool(each)
            found = plan_work(work, pool, name, asked or Asked(), search or Search())
        except DioeError as error:
            rows.append(PoolRow(called, None, "; ".join(filter(None, (error.cause, error.fix)))))
        else:
            rows.append(PoolRow(called, found))
    return tuple(
        sorted(
            rows, key=lambda r: (r.plan is None, 0.0 if r.plan is None else r.plan.schedule.value)
        )
    )
