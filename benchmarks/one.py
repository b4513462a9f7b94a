"""One benchmark model in one mode, as ``dioe bench`` measures it, in a process of its own.

``python -m benchmarks.one NAME [--precision auto]`` prints the JSON object of ``dioe bench`` with
the plan as ``chosen``. What is known before lies in ``--cache-dir FOLDER``: an empty one makes it a
first run, one that was given before a second; without it nothing is known.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.models import MODELS, Feed
from dioe.types import BackendError, DioeError

Result: TypeAlias = dict[str, Any]
"""What ``dioe bench --json`` prints, and ``chosen``, the plan as JSON values."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what is asked of its plan."""

    model: str
    precision: str = "fp32"
    max_relative_l2: float | None = None

    @property
    def name(self) -> str:
        """Such as ``ppocr-det, auto at 0.01``."""
        limit = "" if self.max_relative_l2 is None else f" at {self.max_relative_l2:g}"
        return f"{self.model}, {self.precision}{limit}"


def bench_case(
    case: Case, cache_dir: Path | None = None, *, budget_s: float, time_s: float
) -> Result:
    """``dioe bench`` in a process of its own; raises BackendError if that fails.

    ``budget_s`` is for tuning, ``time_s`` for the final timing; without ``cache_dir`` nothing is
    known before.
    """
    command = [sys.executable, "-m", "benchmarks.one", case.model, "--precision", case.precision]
    command += ["--tuning-budget", str(budget_s), "--time", str(time_s)]
    if case.max_relative_l2 is not None:
        command += ["--max-relative-l2", str(case.max_relative_l2)]
    if cache_dir is not None:
        command += ["--cache-dir", str(cache_dir)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise BackendError(
            f"the benchmark's process ended with {done.returncode}",
            place=case.name,
            fix="its own message is above",
        )
    result: Result = json.loads(done.stdout)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    import dioe

    parser = argparse.ArgumentParser(prog="python -m benchmarks.one", description=main.__doc__)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--max-relative-l2", type=float)
    parser.add_argument("--tuning-budget", type=float, default=15.0, help="seconds")
    parser.add_argument("--time", type=float, default=15.0, help="seconds of the final timing")
    parser.add_argument("--cache-dir", type=Path, help="what is known (default: nothing)")
    options = parser.parse_args(arguments)
    model = MODELS[options.name]
    try:
        with contextlib.ExitStack() as opened:
            cache_dir = options.cache_dir or opened.enter_context(
                tempfile.TemporaryDirectory(prefix="dioe-bench-")
            )
            result = dioe.bench(
                model.path(),
                sample_inputs=_same_shapes(model.feeds()),
                precision=options.precision,
                max_relative_l2=options.max_relative_l2,
                tuning_budget_s=options.tuning_budget,
                time_s=options.time,
                cache_dir=cache_dir,
            )
    except DioeError as error:
        print(f"{options.name}: {error}", file=sys.stderr)
        return error.exit_code
    chosen = json.loads(result.chosen.to_json())
    print(json.dumps({"name": model.name, **result.to_dict(), "chosen": chosen}))
    return 0


def _same_shapes(feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds that have the first one's shapes: fidelity is judged on all of them."""
    first = {name: array.shape for name, array in feeds[0].items()}
    return [f for f in feeds if {name: array.shape for name, array in f.items()} == first]


if __name__ == "__main__":
    sys.exit(main())
