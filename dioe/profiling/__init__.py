"""Measuring: one at a time on a machine, in rounds, and what was measured before."""

from dioe.profiling.history import History, HistoryInfo
from dioe.profiling.history_file import HistoryState
from dioe.profiling.history_records import CostKey, CostRecord
from dioe.profiling.interpolate import interpolate
from dioe.profiling.load import NOISY_SHARE, CpuLoad, others_share
from dioe.profiling.lock import measuring
from dioe.profiling.per_op import profile_executable
from dioe.profiling.rounds import (
    Calls,
    Contender,
    Round,
    Timing,
    paired_ratio,
    time_calls,
    time_in_rounds,
)

__all__ = [
    "NOISY_SHARE",
    "Calls",
    "Contender",
    "CostKey",
    "CostRecord",
    "CpuLoad",
    "History",
    "HistoryInfo",
    "HistoryState",
    "Round",
    "Timing",
    "interpolate",
    "measuring",
    "others_share",
    "paired_ratio",
    "profile_executable",
    "time_calls",
    "time_in_rounds",
]
