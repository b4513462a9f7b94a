"""Backends in processes of their own; the protocol and its reasons are in
docs/decisions/0010-workers.md."""

from dioe.registry.worker.backend import Deadlines, WorkerBackend, WorkerContext, WorkerHost
from dioe.registry.worker.process import Command, WorkerProcess, check_platform

__all__ = [
    "Command",
    "Deadlines",
    "WorkerBackend",
    "WorkerContext",
    "WorkerHost",
    "WorkerProcess",
    "check_platform",
]
