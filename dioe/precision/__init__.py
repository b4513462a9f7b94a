"""Which precisions to try, and whether outputs follow the reference closely enough."""

from dioe.precision.candidates import candidate_precisions, error_limit
from dioe.precision.fidelity import Comparison, compare, relative_l2, untold
from dioe.precision.lowering import Curve, Point, Propose, knapsack, verified
from dioe.precision.sensitivity import Evaluate, Sensitivity, lower, sensitivities
from dioe.precision.written import written_precisions

__all__ = [
    "Comparison",
    "Curve",
    "Evaluate",
    "Point",
    "Propose",
    "Sensitivity",
    "candidate_precisions",
    "compare",
    "error_limit",
    "knapsack",
    "lower",
    "relative_l2",
    "sensitivities",
    "untold",
    "verified",
    "written_precisions",
]
