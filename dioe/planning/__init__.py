"""Choosing: cost tables in, a plan out. Pure: touches no device, reads no clock."""

from dioe.planning.choice import best_single, choose, default_choice
from dioe.planning.plan_file import check_plan, load_plan, plan_from_json
from dioe.planning.single import single_target_plan

__all__ = [
    "best_single",
    "check_plan",
    "choose",
    "default_choice",
    "load_plan",
    "plan_from_json",
    "single_target_plan",
]
