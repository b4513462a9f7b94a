"""What holds for every test: it sees none of the user's settings and touches none of his caches.

Small ONNX models to test with are in ``tests/toys/models.py``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.own_process import (  # noqa: F401 - pytest's hooks
    pytest_configure,
    pytest_runtest_protocol,
    pytest_runtestloop,
    pytest_unconfigure,
)

settings.register_profile("dioe", deadline=None)  # how long an example takes is the machine's
settings.load_profile("dioe")


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of this run's own, and no other ``DIOE_*`` variable, for subprocesses too."""
    with pytest.MonkeyPatch.context() as patched:
        for name in list(os.environ):
            if name.startswith("DIOE_"):
                patched.delenv(name)
        patched.setenv("DIOE_CACHE_DIR", str(tmp_path_factory.mktemp("dioe-cache")))
        yield


@pytest.fixture(autouse=True)
def without_devices_of_others() -> None:
    """A software GPU that a failed test kept loaded is gone before the next test."""
    module = sys.modules.get("tests.backend.software_gpu")
    if module is not None:
        module.unload_left()
