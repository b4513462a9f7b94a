"""One benchmark model in one mode, as ``dioe bench`` measures it, in a process of its own.

``python -m benchmarks.one NAME [--precision auto]`` prints the JSON object of ``dioe bench``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.models import MODELS, Feed
from dioe.types import DioeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    import dioe

    parser = argparse.ArgumentParser(prog="python -m benchmarks.one", description=main.__doc__)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--max-relative-l2", type=float)
    parser.add_argument("--tuning-budget", type=float, default=15.0, help="seconds")
    parser.add_argument("--time", type=float, default=15.0, help="seconds of the final timing")
    options = parser.parse_args(arguments)
    model = MODELS[options.name]
    try:
        with tempfile.TemporaryDirectory(prefix="dioe-bench-") as empty:  # nothing is known before
            result = dioe.bench(
                model.path(),
                sample_inputs=_same_shapes(model.feeds()),
                precision=options.precision,
                max_relative_l2=options.max_relative_l2,
                tuning_budget_s=options.tuning_budget,
                time_s=options.time,
                cache_dir=empty,
            )
    except DioeError as error:
        print(f"{options.name}: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps({"name": model.name, **result.to_dict()}))
    return 0


def _same_shapes(feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds that have the first one's shapes: fidelity is judged on all of them."""
    first = {name: array.shape for name, array in feeds[0].items()}
    return [f for f in feeds if {name: array.shape for name, array in f.items()} == first]


if __name__ == "__main__":
    sys.exit(main())
