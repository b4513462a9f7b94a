"""Choosing: cost tables in, a plan out. Pure: touches no device, reads no clock."""

from dioe.planning.allowed import Allowed
from dioe.planning.chain import place, single_stage, varied
from dioe.planning.choice import LEAST_GAIN, best_single, choose, default_choice
from dioe.planning.explain import block_reports
from dioe.planning.lifetimes import BlockTime, Held, block_times, lifetimes, peak_bytes
from dioe.planning.names import on_threads
from dioe.planning.orders import block_orders
from dioe.planning.plan_check import check_plan
from dioe.planning.plan_file import (
    POLICIES,
    AnyPlan,
    load_plan,
    pipeline_plan_from_json,
    plan_from_json,
)
from dioe.planning.plan_memory import check_memory, over_caps, over_memory, stage_bytes
from dioe.planning.problem import (
    BlockNode,
    ContextKey,
    Cost,
    DeviceNode,
    Line,
    LinkCosts,
    Problem,
    TargetCosts,
    block_nodes,
    build_problem,
)
from dioe.planning.schedule import SCHEDULE_POLICIES, Schedule
from dioe.planning.simulator import PlacedStage, Placement, Simulation, Transfer, simulate
from dioe.planning.single import single_target_plan
from dioe.planning.tables import Tables
from dioe.planning.to_plan import to_plan
from dioe.planning.tradeoff import (
    CurvePoint,
    best_within,
    predicted_error,
    tradeoff_curve,
    tradeoffs,
)
from dioe.planning.within import place_within

__all__ = [
    "LEAST_GAIN",
    "POLICIES",
    "SCHEDULE_POLICIES",
    "Allowed",
    "AnyPlan",
    "BlockNode",
    "BlockTime",
    "ContextKey",
    "Cost",
    "CurvePoint",
    "DeviceNode",
    "Held",
    "Line",
    "LinkCosts",
    "PlacedStage",
    "Placement",
    "Problem",
    "Schedule",
    "Simulation",
    "Tables",
    "TargetCosts",
    "Transfer",
    "best_single",
    "best_within",
    "block_nodes",
    "block_orders",
    "block_reports",
    "block_times",
    "build_problem",
    "check_memory",
    "check_plan",
    "choose",
    "default_choice",
    "lifetimes",
    "load_plan",
    "on_threads",
    "over_caps",
    "over_memory",
    "peak_bytes",
    "pipeline_plan_from_json",
    "place",
    "place_within",
    "plan_from_json",
    "predicted_error",
    "simulate",
    "single_stage",
    "single_target_plan",
    "stage_bytes",
    "to_plan",
    "tradeoff_curve",
    "tradeoffs",
    "varied",
]
