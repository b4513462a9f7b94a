"""Tuned plans kept between processes, so that compiling the same model again measures nothing.

A plan is found again only under exactly what it was made for: model, shapes, samples, hardware,
settings and versions. A cache that can't be read or written is worked around, with one warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dioe.planning import AnyPlan, pipeline_plan_from_json, plan_from_json
from dioe.tuning.samples import ShapeGroup, samples_digest
from dioe.types import PipelinePlan, Plan, PlanMismatch

P = TypeVar("P", bound=AnyPlan)

log = logging.getLogger(__name__)


class PlanCache:
    """Plans as files in ``folder/plans``, named by the digest of what they were made for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "plans"

    def key(self, group: ShapeGroup, settings: Mapping[str, Any]) -> str:
        """The digest of the samples' contents and the settings."""
        text = json.dumps(settings, sort_keys=True, default=str)
        return hashlib.sha256((text + samples_digest(group.feeds)).encode()).hexdigest()

    def get(self, key: str) -> Plan | None:
        """The plan under ``key``; None if there's none that can be read."""
        return self._read(key, plan_from_json)

    def get_pipeline(self, key: str) -> PipelinePlan | None:
        """The plan of a pipeline under ``key``; None if there's none that can be read."""
        return self._read(key, pipeline_plan_from_json)

    def _read(self, key: str, read: Callable[..., P]) -> P | None:
        path = self._folder / f"{key}.json"
        try:
            return read(path.read_text(encoding="utf-8"), place=str(path))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, PlanMismatch) as error:
            log.warning("plan cache: %s can't be used and is made anew: %s", path, _cause(error))
            return None

    def put(self, key: str, plan: AnyPlan) -> None:
        """Keep a plan, unless it was measured while the machine was busy."""
        if any(r.noisy for r in plan.candidates):
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(plan.to_json())
                os.replace(name, self._folder / f"{key}.json")
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            log.warning(
                "plan cache: can't write to %s, plans aren't kept: %s", self._folder, _cause(error)
            )


def _cause(error: Exception) -> str:
    """What went wrong, in words: of an OSError neither its number nor the path again."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return error.cause if isinstance(error, PlanMismatch) else str(error)
