"""Measuring: one at a time on a machine, in rounds, and what was measured before."""

from dioe.profiling.blocks import (
    BlockKey,
    BlockTiming,
    DistinctBlock,
    distinct_blocks,
    profile_blocks,
    time_block,
)
from dioe.profiling.calls import preset_outputs, waiting_call
from dioe.profiling.capture import Activations, capture
from dioe.profiling.copies import CopyCosts, time_copies
from dioe.profiling.dispatch import time_dispatch
from dioe.profiling.factors import MeasuredKernels, learn
from dioe.profiling.history import History, HistoryInfo
from dioe.profiling.history_file import HistoryState
from dioe.profiling.history_records import CostKey, CostRecord
from dioe.profiling.in_context import in_context, op_costs
from dioe.profiling.interpolate import interpolate
from dioe.profiling.load import NOISY_SHARE, CpuLoad, others_share
from dioe.profiling.lock import measuring
from dioe.profiling.per_op import profile_executable
from dioe.profiling.roofline import Bound, KernelTime, Roofline
from dioe.profiling.rounds import (
    Calls,
    Contender,
    Round,
    Timing,
    paired_ratio,
    shortest_round_s,
    time_calls,
    time_in_rounds,
)
from dioe.profiling.stage_fit import (
    StageCosts,
    StageFit,
    StageObservation,
    block_corrections,
    fit,
)

__all__ = [
    "NOISY_SHARE",
    "Activations",
    "BlockKey",
    "BlockTiming",
    "Bound",
    "Calls",
    "Contender",
    "CopyCosts",
    "CostKey",
    "CostRecord",
    "CpuLoad",
    "DistinctBlock",
    "History",
    "HistoryInfo",
    "HistoryState",
    "KernelTime",
    "MeasuredKernels",
    "Roofline",
    "Round",
    "StageCosts",
    "StageFit",
    "StageObservation",
    "Timing",
    "block_corrections",
    "capture",
    "distinct_blocks",
    "fit",
    "in_context",
    "interpolate",
    "learn",
    "measuring",
    "op_costs",
    "others_share",
    "paired_ratio",
    "preset_outputs",
    "profile_blocks",
    "profile_executable",
    "shortest_round_s",
    "time_block",
    "time_calls",
    "time_copies",
    "time_dispatch",
    "time_in_rounds",
    "waiting_call",
]
