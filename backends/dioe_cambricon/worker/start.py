"""The first file of the worker, loaded by its path: makes the others importable.

The folder of DIOE's own installation can't go on the path of another Python: its numpy would come
along. So each package that the worker needs is named with its folder, and nothing else of it runs.
"""

from __future__ import annotations

import importlib
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def create(args: dict[str, Any]) -> Any:
    """The handler of ``args["provider"]``; ``args["packages"]`` maps packages to their folders."""
    for name, folder in args["packages"].items():
        package = types.ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package
    handler = importlib.import_module("dioe_cambricon.worker.handler")
    provider = importlib.import_module("dioe_cambricon.worker." + args["provider"])
    return handler.Handler(provider.Provider(args["folder"]), args["folder"])
