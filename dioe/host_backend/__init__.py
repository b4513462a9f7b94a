"""What backends on host memory share, beside the contract: contexts, specs of a model, trials.

Imports only ``dioe.types``; a plugin may use it or not.
"""

from dioe.host_backend.context import (
    HostContext,
    Registered,
    check_host,
    check_resources,
    host_device,
)
from dioe.host_backend.device_memory import (
    OutOfReach,
    buffer_shape,
    check_alike,
    check_room,
    nbytes_of,
)
from dioe.host_backend.options import (
    OptionRule,
    check_options,
    fixed,
    is_bool,
    is_count,
    resolve_options,
    resource_rules,
)
from dioe.host_backend.passthrough import PassThroughRequest, computed_outputs
from dioe.host_backend.trial import support_by_trial
from dioe.host_backend.values import (
    aligned_empty,
    can_preset,
    check_array,
    contiguous,
    empty,
    host_array,
    match_outputs,
    missing_inputs,
    name_list,
    static_shape,
    tensor_specs,
    unknown_name,
)

__all__ = [
    "HostContext",
    "OptionRule",
    "OutOfReach",
    "PassThroughRequest",
    "Registered",
    "aligned_empty",
    "buffer_shape",
    "can_preset",
    "check_alike",
    "check_array",
    "check_host",
    "check_options",
    "check_resources",
    "check_room",
    "computed_outputs",
    "contiguous",
    "empty",
    "fixed",
    "host_array",
    "host_device",
    "is_bool",
    "is_count",
    "match_outputs",
    "missing_inputs",
    "name_list",
    "nbytes_of",
    "resolve_options",
    "resource_rules",
    "static_shape",
    "support_by_trial",
    "tensor_specs",
    "unknown_name",
]
