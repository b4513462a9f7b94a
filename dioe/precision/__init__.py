"""Which precisions to try, and whether outputs follow the reference closely enough."""

from dioe.precision.candidates import candidate_precisions, error_limit
from dioe.precision.fidelity import Comparison, compare, relative_l2

__all__ = ["Comparison", "candidate_precisions", "compare", "error_limit", "relative_l2"]
