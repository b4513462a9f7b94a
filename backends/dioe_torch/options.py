"""Options of the torch backends, and what becomes of each."""

from __future__ import annotations

from dioe.host_backend import OptionRule, fixed, is_bool, resource_rules
from dioe.types import Effect, Precision, Resolution

_COMPUTED = (Precision.FP32, Precision.BF16, Precision.FP16)
NO_PROFILE = "fused kernels have no times of single ops"


def rules(*, inductor: bool) -> dict[str, OptionRule]:
    """The options of eager torch, or of Inductor."""
    fusion = (
        fixed(Effect.APPROXIMATED, "torch.compile", "Inductor always fuses")
        if inductor
        else fixed(Effect.IGNORED, note="eager torch runs op by op; torch.inductor fuses")
    )
    return {
        "optimize": OptionRule(
            is_bool, "true or false", fixed(Effect.APPLIED, note="computing constant parts once")
        ),
        "profile": OptionRule(
            is_bool,
            "true or false",
            fixed(Effect.REJECTED, note=NO_PROFILE) if inductor else fixed(Effect.APPLIED),
        ),
        "kernel_fusion": OptionRule(is_bool, "true or false", fusion),
        "tiling_strategy": OptionRule(
            lambda _: True, "anything", fixed(Effect.IGNORED, note="kernels choose their own")
        ),
        **resource_rules(
            precision=lambda v: Resolution(
                Effect.APPLIED if v in _COMPUTED else Effect.REJECTED,
                note="" if v in _COMPUTED else "torch computes fp32, bf16 and fp16",
            ),
            threads=fixed(Effect.APPLIED, "torch.set_num_threads"),
            streams=fixed(Effect.IGNORED, note="one stream a context"),
            spin=fixed(Effect.IGNORED, note="OpenMP's own, by OMP_WAIT_POLICY"),
            memory_limit_bytes=fixed(Effect.APPLIED, note="of buffers allocated by DIOE"),
        ),
    }
