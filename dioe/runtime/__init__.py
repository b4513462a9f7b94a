"""Plans become loaded executables, and sessions run them."""

from dioe.runtime.background import NewShape, ShapeTuner, Stopped
from dioe.runtime.bound import BoundRequest
from dioe.runtime.loading import LoadedPlan, load
from dioe.runtime.memory import TransferReport, is_host
from dioe.runtime.process import Runtime
from dioe.runtime.session import Session
from dioe.runtime.variant import Variant

__all__ = [
    "BoundRequest",
    "LoadedPlan",
    "NewShape",
    "Runtime",
    "Session",
    "ShapeTuner",
    "Stopped",
    "TransferReport",
    "Variant",
    "is_host",
    "load",
]
