"""Plans become loaded executables, and sessions run them."""

from dioe.runtime.background import NewShape, ShapeTuner, Stopped
from dioe.runtime.bound import BoundRequest
from dioe.runtime.flow import Clock, Flow, RunModel
from dioe.runtime.loading import LoadedPlan, load
from dioe.runtime.memory import TransferReport, is_host
from dioe.runtime.pipeline import Pipeline, full_names, in_node, near
from dioe.runtime.pipeline_session import PipelineSession
from dioe.runtime.process import Runtime
from dioe.runtime.session import Session
from dioe.runtime.variant import Variant

__all__ = [
    "BoundRequest",
    "Clock",
    "Flow",
    "LoadedPlan",
    "NewShape",
    "Pipeline",
    "PipelineSession",
    "RunModel",
    "Runtime",
    "Session",
    "ShapeTuner",
    "Stopped",
    "TransferReport",
    "Variant",
    "full_names",
    "in_node",
    "is_host",
    "load",
    "near",
]
