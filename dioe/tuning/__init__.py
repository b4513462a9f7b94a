"""Profile, plan, compile, time, verify, within a budget. ``dioe.compile`` lives here."""

from dioe.tuning.bench import BenchResult, bench
from dioe.tuning.block_profiles import (
    BlockCost,
    BlockProfile,
    BlockProfiles,
    block_profiles,
)
from dioe.tuning.calibrate import Calibration, calibrate, run_calibration
from dioe.tuning.compare import PoolRow, compare_pools
from dioe.tuning.compile import Job, Settings, compile_model
from dioe.tuning.modelled_plan import DeviceUse, ModelledPlan, ModelledStage, Search, plan
from dioe.tuning.modelled_problem import Asked
from dioe.tuning.predict import Predicted, Prediction, predict
from dioe.tuning.profiles import TargetProfile, op_costs, profile_targets
from dioe.tuning.targets import Candidate, candidates, refusal_text
from dioe.tuning.tune import Tuning

__all__ = [
    "Asked",
    "BenchResult",
    "BlockCost",
    "BlockProfile",
    "BlockProfiles",
    "Calibration",
    "Candidate",
    "DeviceUse",
    "Job",
    "ModelledPlan",
    "ModelledStage",
    "PoolRow",
    "Predicted",
    "Prediction",
    "Search",
    "Settings",
    "TargetProfile",
    "Tuning",
    "bench",
    "block_profiles",
    "calibrate",
    "candidates",
    "compare_pools",
    "compile_model",
    "op_costs",
    "plan",
    "predict",
    "profile_targets",
    "refusal_text",
    "run_calibration",
]
