"""Plans become loaded executables, and sessions run them."""

from dioe.runtime.bound import BoundRequest
from dioe.runtime.loading import LoadedPlan, load
from dioe.runtime.process import Runtime
from dioe.runtime.session import Session

__all__ = ["BoundRequest", "LoadedPlan", "Runtime", "Session", "load"]
