"""The contract: what DIOE's packages and its backend plugins share, and nothing else.

This package imports nothing else of DIOE and no backend. A plugin needs only it; see
``docs/plugins.md``. Data classes are frozen, protocols say what a plugin provides. Every size is
in bytes, every time in milliseconds, as the suffixes of the names say.

========== ===================================================================================
errors     what is raised on purpose: the cause, the place, and what to do about it
devices    devices as backends see them, and what may be used of one
targets    precisions; where and in which of them a stage computes
values     tensors and other values, buffers, what describes them
backends   the protocols: Backend, Context, Executable, Request; what they say of themselves
plans      stages and boundaries, what they cost, and why they were chosen
pipelines  plans of several models with host tasks between them
========== ===================================================================================

Import from here: which of its modules a name lives in may change.
"""

from dioe.types.backends import (
    ABI_VERSION,
    ENTRY_POINT_GROUP,
    Backend,
    Capabilities,
    Context,
    DirectRequest,
    Effect,
    Executable,
    OpTime,
    Request,
    Resolution,
    Sample,
    StageModel,
    Support,
)
from dioe.types.devices import DeviceInfo, DeviceState, KnownAs, Resources
from dioe.types.errors import (
    BackendError,
    ConfigError,
    DeviceLost,
    DioeError,
    FidelityError,
    InputError,
    ModelError,
    OutOfMemory,
    PlanMismatch,
    TimedOut,
    UnsupportedError,
)
from dioe.types.pipelines import (
    HostTask,
    ModelNode,
    NodeCost,
    PipelineEdge,
    PipelinePlan,
)
from dioe.types.plans import (
    Basis,
    BlockReport,
    Boundary,
    Plan,
    Stage,
    TargetReport,
    Tradeoff,
)
from dioe.types.targets import Precision, Precisions, Target
from dioe.types.values import (
    DONE,
    Array,
    Buffer,
    Dim,
    Event,
    Feeds,
    HostBuffer,
    TensorSpec,
    Value,
)

__all__ = [
    "ABI_VERSION",
    "DONE",
    "ENTRY_POINT_GROUP",
    "Array",
    "Backend",
    "BackendError",
    "Basis",
    "BlockReport",
    "Boundary",
    "Buffer",
    "Capabilities",
    "ConfigError",
    "Context",
    "DeviceInfo",
    "DeviceLost",
    "DeviceState",
    "Dim",
    "DioeError",
    "DirectRequest",
    "Effect",
    "Event",
    "Executable",
    "Feeds",
    "FidelityError",
    "HostBuffer",
    "HostTask",
    "InputError",
    "KnownAs",
    "ModelError",
    "ModelNode",
    "NodeCost",
    "OpTime",
    "OutOfMemory",
    "PipelineEdge",
    "PipelinePlan",
    "Plan",
    "PlanMismatch",
    "Precision",
    "Precisions",
    "Request",
    "Resolution",
    "Resources",
    "Sample",
    "Stage",
    "StageModel",
    "Support",
    "Target",
    "TargetReport",
    "TensorSpec",
    "TimedOut",
    "Tradeoff",
    "UnsupportedError",
    "Value",
]

# Tracebacks and pickles name an error, and it is named by where it is imported from. Data classes
# keep their own module: their annotations are read there.
for _error in (DioeError, *DioeError.__subclasses__()):
    _error.__module__ = __name__
del _error
