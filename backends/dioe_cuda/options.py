"""Options of the CUDA backend: those of eager torch, and captured graphs."""

from __future__ import annotations

from dioe.host_backend import OptionRule, is_bool
from dioe.types import Effect, Resolution
from dioe_torch import options

GRAPHS = "cuda_graphs"

_CAPTURED = "at the second run of the same shapes; what can't be captured runs op by op"


def rules() -> dict[str, OptionRule]:
    """The options of this backend; ``cuda_graphs`` is on unless it is switched off."""
    return {
        **options.rules(inductor=False),
        GRAPHS: OptionRule(
            is_bool,
            "true or false",
            lambda on: Resolution(
                Effect.APPLIED, "torch.cuda.CUDAGraph", _CAPTURED if on else "runs go op by op"
            ),
        ),
    }
