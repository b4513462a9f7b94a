"""Choosing: cost tables in, a plan out. Pure: touches no device, and reads no clock but that of a
search's time limit."""

from dioe.planning.allowed import Allowed
from dioe.planning.assigned import Assigned, assigned_of, placed
from dioe.planning.bounds import bound
from dioe.planning.budget import Budget
from dioe.planning.by_hand import task_problem
from dioe.planning.chain import place, single_stage, varied
from dioe.planning.choice import LEAST_GAIN, best_single, choose, default_choice
from dioe.planning.explain import block_reports
from dioe.planning.json_text import problem_to_json, schedule_to_json
from dioe.planning.lifetimes import BlockTime, Held, block_times, lifetimes, peak_bytes
from dioe.planning.names import on_threads
from dioe.planning.objective import Excess, Judged, energy_j, judged
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
from dioe.planning.problem_file import load_problem, problem_from_json
from dioe.planning.reasons import block_reasons, gap_text
from dioe.planning.replan import Replanned, Replanner
from dioe.planning.schedule import SCHEDULE_POLICIES, Schedule
from dioe.planning.schedulers import SCHEDULERS
from dioe.planning.simulator import PlacedStage, Placement, Simulation, Transfer, simulate
from dioe.planning.single import single_target_plan
from dioe.planning.solve import solve
from dioe.planning.tables import Tables
from dioe.planning.to_plan import to_plan
from dioe.planning.tradeoff import (
    CurvePoint,
    best_within,
    predicted_error,
    tradeoff_curve,
    tradeoffs,
)
from dioe.planning.validator import VIOLATIONS, Violation, violations
from dioe.planning.within import place_within

__all__ = [
    "LEAST_GAIN",
    "POLICIES",
    "SCHEDULERS",
    "SCHEDULE_POLICIES",
    "VIOLATIONS",
    "Allowed",
    "AnyPlan",
    "Assigned",
    "BlockNode",
    "BlockTime",
    "Budget",
    "ContextKey",
    "Cost",
    "CurvePoint",
    "DeviceNode",
    "Excess",
    "Held",
    "Judged",
    "Line",
    "LinkCosts",
    "PlacedStage",
    "Placement",
    "Problem",
    "Replanned",
    "Replanner",
    "Schedule",
    "Simulation",
    "Tables",
    "TargetCosts",
    "Transfer",
    "Violation",
    "assigned_of",
    "best_single",
    "best_within",
    "block_nodes",
    "block_orders",
    "block_reasons",
    "block_reports",
    "block_times",
    "bound",
    "build_problem",
    "check_memory",
    "check_plan",
    "choose",
    "default_choice",
    "energy_j",
    "gap_text",
    "judged",
    "lifetimes",
    "load_plan",
    "load_problem",
    "on_threads",
    "over_caps",
    "over_memory",
    "peak_bytes",
    "pipeline_plan_from_json",
    "place",
    "place_within",
    "placed",
    "plan_from_json",
    "predicted_error",
    "problem_from_json",
    "problem_to_json",
    "schedule_to_json",
    "simulate",
    "single_stage",
    "single_target_plan",
    "solve",
    "stage_bytes",
    "task_problem",
    "to_plan",
    "tradeoff_curve",
    "tradeoffs",
    "varied",
    "violations",
]
