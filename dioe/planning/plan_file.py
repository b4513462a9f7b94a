"""Plans as JSON files: reading them back strictly.

A plan is data. Nothing in it can name a library, a file or code; backends are looked up by name
among the installed plugins only.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from dioe.planning.strict_json import Misfit, read_json
from dioe.types import InputError, PipelinePlan, Plan, PlanMismatch, Precision

AnyPlan = Plan | PipelinePlan

POLICIES = ("latency",)
"""What a plan may optimise."""

MODELLED_PLAN_FORMAT = "dioe-modelled-plan"
"""The format of what ``dioe.plan`` writes: figures of devices that aren't here, nothing to run."""

MAKE_ANEW = "make one with `dioe plan MODEL -o plan.json`"
"""What to do about a plan that can't be used."""

_MAX_BYTES = 64 * 2**20
_MAX_THREADS = 4096
_MAX_DIM = 2**63 - 1


def load_plan(path: str | PathLike[str]) -> AnyPlan:
    """Read the plan file of a model or of a pipeline.

    Raises PlanMismatch if it can't be read or isn't a plan of this version, InputError for what is
    no path.
    """
    if not isinstance(path, str | PathLike):
        raise InputError(f"a plan's path is a {type(path).__name__}", fix="name the plan's file")
    if isinstance(path, str) and path.lstrip().startswith("{") and '"' in path:
        raise InputError("the text of a plan, where the path of its file is taken", fix=_TEXT)
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PlanMismatch("too large for a plan", place=str(path), fix=MAKE_ANEW)
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8, or a null in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanMismatch(
            f"can't read the plan: {reason}", place=str(path), fix=MAKE_ANEW
        ) from None
    data = _parsed(text, str(path))
    if data.get("format") == PipelinePlan.FORMAT:
        return _pipeline_plan(data, str(path))
    return _plan(data, str(path))


_COMPILE_ANEW = "compile the pipeline again, and write down its session.plan.to_json()"
_TEXT = (
    "give the plan itself (session.plan), or write the text to a file, name that, and read it "
    "with dioe.load_plan"
)


def plan_from_json(text: str, *, place: str = "plan") -> Plan:
    """The plan in ``text``; raises PlanMismatch with the place of what is wrong."""
    return _plan(_parsed(text, place), place)


def pipeline_plan_from_json(text: str, *, place: str = "plan") -> PipelinePlan:
    """The pipeline's plan in ``text``; raises PlanMismatch with the place of what is wrong."""
    return _pipeline_plan(_parsed(text, place), place)


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanMismatch(f"not JSON: {error}", place=place, fix=MAKE_ANEW) from None
    if not isinstance(data, dict):
        raise PlanMismatch("not a DIOE plan", place=place, fix=MAKE_ANEW)
    return data


def _plan(data: dict[str, Any], place: str) -> Plan:
    plan = _read_versioned(Plan, data, place)
    _check_consistency(plan, place)
    return plan


def _pipeline_plan(data: dict[str, Any], place: str) -> PipelinePlan:
    plan = _read_versioned(PipelinePlan, data, place)
    problem = next(_pipeline_problems(plan), None)
    if problem is not None:
        raise PlanMismatch(problem, place=place, fix=_COMPILE_ANEW)
    for name, node in plan.models.items():
        for each in node.plans:
            _check_consistency(each, f"{place}: node {name!r}", fix=_COMPILE_ANEW)
    return plan


P = TypeVar("P", Plan, PipelinePlan)


def _read_versioned(kind: type[P], data: dict[str, Any], place: str) -> P:
    fix = _COMPILE_ANEW if kind is PipelinePlan else MAKE_ANEW
    if data.get("format") != kind.FORMAT:
        others = {
            PipelinePlan.FORMAT: "the plan of a pipeline, not of a model",
            Plan.FORMAT: "the plan of a model, not of a pipeline",
            MODELLED_PLAN_FORMAT: "a modelled plan: figures of devices that aren't here, nothing "
            "that could be run",
        }
        what = others.get(str(data.get("format")), "not a DIOE plan")
        raise PlanMismatch(what, place=place, fix=fix)
    if data.get("version") != kind.VERSION:
        raise PlanMismatch(
            f"plan version {data.get('version')}, this DIOE reads {kind.VERSION}",
            place=place,
            fix=fix,
        )
    body = {key: value for key, value in data.items() if key not in ("format", "version")}
    try:
        return typing.cast(P, read_json(kind, body, ""))
    except Misfit as error:
        raise PlanMismatch(str(error), place=place, fix=fix) from None
    except RecursionError:  # from the repr of what was found instead
        raise PlanMismatch("nested too deeply", place=place, fix=fix) from None


def _pipeline_problems(plan: PipelinePlan) -> Iterator[str]:
    yield from _unknown_settings(plan)
    nodes = [*plan.models, *plan.tasks]
    if len(set(nodes)) != len(nodes):
        yield "two nodes have one name"
    if sorted((*plan.order, *plan.called)) != sorted(nodes):
        yield "its order isn't of its nodes"
    for name, node in plan.models.items():
        if not node.plans:
            yield f"node {name!r} has no plan"
        if len({each.model_sha256 for each in node.plans}) > 1:
            yield f"node {name!r} has plans of several models"
    for name, cost in plan.costs.items():
        if cost is not None and cost.runs < 1:
            yield f"node {name!r} has a cost that can't be"
    for edge in plan.edges:
        for end in (edge.source, edge.destination):
            if end.partition(".")[0] not in plan.order:
                yield f"edge {edge.source} -> {edge.destination} names an unknown node"


def _check_consistency(plan: Plan, place: str, fix: str = MAKE_ANEW) -> None:
    problem = next(_problems(plan), None)
    if problem is not None:
        raise PlanMismatch(problem, place=place, fix=fix)


def _unknown_settings(plan: AnyPlan) -> Iterator[str]:
    if plan.policy not in POLICIES:
        yield f"policy: {plan.policy!r:.60} is none of {', '.join(POLICIES)}"
    precisions = ("auto", *Precision)
    if plan.precision not in precisions:
        yield f"precision: {plan.precision!r:.60} is none of {', '.join(precisions)}"
    if plan.max_relative_l2 == 0:
        yield "max_relative_l2: nothing is within 0"


def _problems(plan: Plan) -> Iterator[str]:
    yield from _unknown_settings(plan)
    names = [stage.name for stage in plan.stages]
    if not names:
        yield "has no stages"
    if len(set(names)) != len(names):
        yield "two stages have one name"
    seen: set[str] = set()
    for stage in plan.stages:
        for op in stage.ops:
            if op in seen:
                yield f"op {op!r} is planned twice"
            seen.add(op)
        if set(stage.precisions.used) != set(stage.target.precisions):
            yield f"stage {stage.name!r} computes in other precisions than its target says"
        for value, least, most in (
            (stage.resources.threads, 1, _MAX_THREADS),
            (stage.resources.streams, 1, _MAX_THREADS),
            (stage.resources.memory_limit_bytes, 1, _MAX_DIM),
            *((core, 0, _MAX_THREADS) for core in stage.resources.cores or ()),
        ):
            if value is not None and not least <= value <= most:
                yield f"stage {stage.name!r}: {value} is out of range for a resource"
    for name, shape in plan.shapes.items():
        if any(isinstance(dim, int) and not 0 <= dim <= _MAX_DIM for dim in shape):
            yield f"the shape of {name!r} has a dimension that is out of range"
    for edge in plan.boundaries:
        if edge.source not in names or edge.destination not in names:
            yield f"boundary of {edge.value!r} names an unknown stage"
        elif names.index(edge.source) >= names.index(edge.destination):
            yield f"boundary of {edge.value!r} goes backwards"
