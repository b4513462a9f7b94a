"""Measuring: one at a time on a machine, in rounds, with an eye on what else runs."""

from dioe.profiling.load import NOISY_SHARE, CpuLoad, others_share
from dioe.profiling.lock import measuring
from dioe.profiling.per_op import profile_executable
from dioe.profiling.rounds import Calls, Contender, Round, Timing, time_calls, time_in_rounds

__all__ = [
    "NOISY_SHARE",
    "Calls",
    "Contender",
    "CpuLoad",
    "Round",
    "Timing",
    "measuring",
    "others_share",
    "profile_executable",
    "time_calls",
    "time_in_rounds",
]
