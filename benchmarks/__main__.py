"""The table in the README: every benchmark model, as written and with precision lowered.

``python -m benchmarks`` measures all of them (some 15 minutes), prints the table in Markdown and
keeps every figure in ``benchmarks/results.json``. It fails if a plan is slower than the best single
target: less than 0.97 times as fast, and by more than 15 µs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.models import MODELS
from benchmarks.one import Case, Result, bench_case

RESULTS = Path(__file__).parent / "results.json"
LEAST_SPEEDUP = 0.97
MOST_EXCESS_MS = 0.015


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, keep; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(MODELS)} (default: all)")
    parser.add_argument("--tuning-budget", type=float, default=15.0, help="seconds a model")
    parser.add_argument("--time", type=float, default=15.0, help="seconds of each final timing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures are kept")
    parser.add_argument("--print-only", action="store_true", help="print what was kept")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(MODELS))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    kept: dict[str, dict[str, Result]] = {}
    if options.results.exists():
        kept = json.loads(options.results.read_text(encoding="utf-8"))
    if not options.print_only:
        for name in options.names or MODELS:
            kept[name] = {
                mode: _measure(name, mode, options.tuning_budget, options.time)
                for mode in ("fp32", "auto")
            }
            options.results.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    ordered = {name: kept[name] for name in MODELS if name in kept}
    print(table(ordered))
    slower = [text for name, modes in ordered.items() for text in _slower(name, modes)]
    for text in slower:
        print(text, file=sys.stderr)
    return 1 if slower else 0


def _measure(name: str, mode: str, budget_s: float, time_s: float) -> Result:
    case = Case(name, mode)
    print(f"{case.name} …", file=sys.stderr, flush=True)
    return bench_case(case, budget_s=budget_s, time_s=time_s)


def _slower(name: str, modes: dict[str, Result]) -> list[str]:
    texts = []
    for mode, result in modes.items():
        excess_ms = result["plan"]["p50_ms"] * (1 - result["speedup_over_best_single"])
        if result["speedup_over_best_single"] < LEAST_SPEEDUP and excess_ms > MOST_EXCESS_MS:
            texts.append(
                f"{name}, {mode}: the plan is {result['speedup_over_best_single']:.3f} times as "
                f"fast as {result['best_single']['target']}"
            )
    return texts


def table(results: dict[str, dict[str, Result]]) -> str:
    """The figures as a Markdown table with the machine and the versions below."""
    head = [
        "model", "ONNX Runtime fp32", "OpenVINO fp32", "**DIOE fp32**", "over the best single",
        "**DIOE auto**", "its target", "error",
    ]  # fmt: skip
    rows = [head, ["---"] + ["---:"] * 5 + ["---", "---:"]]
    for name, modes in results.items():
        written, auto = modes["fp32"], modes["auto"]
        rows.append(
            [
                name,
                _target_ms(written, "cpu/onnxruntime/fp32"),
                _target_ms(written, "cpu/openvino/fp32"),
                f"**{_ms(written['plan']['p50_ms'])}**",
                f"×{written['speedup_over_best_single']:.2f}",
                f"**{_ms(auto['plan']['p50_ms'])}**",
                " → ".join(s["target"].removeprefix("cpu/") for s in auto["plan"]["stages"]),
                f"{auto['plan']['relative_l2']:.1e}",
            ]
        )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    first = next(iter(results.values()))["fp32"]
    machine, versions = first["machine"], first["settings"]["versions"]
    tried = {target["target"].split("/")[1] for target in first["targets"]}
    features = [e for e in machine["vector_extensions"] if e in ("avx512_bf16", "avx512_vnni")]
    lines.append("")
    lines.append(
        f"Medians in ms, batch 1, on {machine['capacity']:g} cores of {machine['name']} "
        f"({', '.join(features)}), a shared virtual machine; "
        + ", ".join(f"{name} {versions[name]}" for name in sorted(tried & versions.keys()))
        + "."
    )
    return "\n".join(lines)


def _target_ms(result: Result, target: str) -> str:
    for report in result["targets"]:
        if report["target"] == target:
            if report["p50_ms"] is None or report["state"] == "unsupported":
                return str(report["state"])
            return _ms(report["p50_ms"]) + (
                "" if report["state"] == "ok" else f" ({report['state']})"
            )
    return "–"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
