"""The worker processes: which Python runs them, and why there may be none."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from dioe.registry.status import PluginStatus
from dioe.registry.worker import Command, Deadlines, WorkerHost, WorkerProcess

VARIABLE = "DIOE_CAMBRICON_PYTHON"
"""Names the Python that Cambricon's packages are installed in."""

FOLDER = Path(__file__).parent


def _folders() -> dict[str, str]:
    """The packages that the worker finds by their folders; nothing of them is imported here."""
    found = {"dioe_cambricon": str(FOLDER)}
    spec = importlib.util.find_spec("dioe_torch")
    if spec is not None and spec.submodule_search_locations:
        found["dioe_torch"] = next(iter(spec.submodule_search_locations))
    return found


class CambriconHost(WorkerHost):
    """The worker of one provider, on the Python that the variable names.

    ``provider`` is the library (``magicmind``, ``torch_mlu``) and the module of ``worker`` that
    wraps it, ``name`` that of the backend.
    """

    def __init__(self, provider: str, name: str, *, deadlines: Deadlines | None = None) -> None:
        super().__init__(provider, name=name, deadlines=deadlines)
        self._provider, self._name = provider, name

    @property
    def python(self) -> str:
        """The interpreter as the variable has it; empty where it isn't set."""
        return os.environ.get(VARIABLE, "").strip()

    def missing(self) -> str:
        """Why no worker can be started, as a sentence; empty if one can be."""
        if not self.python:
            return (
                f"{VARIABLE} isn't set: it names the Python that Cambricon's {self._provider} is "
                "installed in (docs/cambricon.md)"
            )
        if shutil.which(self.python) is None:
            return f"{VARIABLE}={self.python} is no program that can be run: correct the path"
        return ""

    def start(self, limit_s: float) -> WorkerProcess:
        """See ``WorkerHost``: started on the vendor's Python, by the path of its first file."""
        return WorkerProcess(
            Command(
                str(FOLDER / "worker" / "start.py"),
                {"provider": self._provider, "packages": _folders()},
                python=self.python,
                place=f"worker of {self._name}",
            ),
            start_limit_s=limit_s,
        )

    def load(self, process: WorkerProcess, limit_s: float) -> PluginStatus | None:
        """There is no plugin to load: the provider was made when the worker began."""
        return None
