"""The entry point by which pytest finds the suite's plugin, only where the suite is asked for.

pytest reads the options of a run before it imports the packages named after ``--pyargs``, so a
``conftest.py`` in the package would come too late to add any. Every pytest run in an environment
with DIOE loads this module, therefore it does nothing and imports nothing for all the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

SUITE = "dioe.testing.conformance"


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Register the suite's options if its package, by name or by path, is among the arguments."""
    if any(SUITE in str(arg).replace("/", ".").replace("\\", ".") for arg in args):
        early_config.pluginmanager.import_plugin("dioe.testing.plugin")
