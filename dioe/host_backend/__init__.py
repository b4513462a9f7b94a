"""What backends on host memory share, beside the contract: contexts, specs of a model, trials.

Imports only ``dioe.types``; a plugin may use it or not.
"""

from dioe.host_backend.context import HostContext, Registered, host_device
from dioe.host_backend.options import OptionRule, check_options, resolve_options
from dioe.host_backend.passthrough import PassThroughRequest, computed_outputs
from dioe.host_backend.trial import support_by_trial
from dioe.host_backend.values import (
    aligned_empty,
    check_array,
    contiguous,
    host_array,
    match_outputs,
    missing_inputs,
    name_list,
    tensor_specs,
    unknown_name,
)

__all__ = [
    "HostContext",
    "OptionRule",
    "PassThroughRequest",
    "Registered",
    "aligned_empty",
    "check_array",
    "check_options",
    "computed_outputs",
    "contiguous",
    "host_array",
    "host_device",
    "match_outputs",
    "missing_inputs",
    "name_list",
    "resolve_options",
    "support_by_trial",
    "tensor_specs",
    "unknown_name",
]
