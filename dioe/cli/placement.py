"""``dioe placement``: a placement problem of the published benchmark, solved and judged."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from dioe.cli import options
from dioe.cli.files import SPLIT, check_output, write_text
from dioe.cli.terminal import console, new_table, progress, size

if TYPE_CHECKING:
    from dioe.planning.splits import Answer, Device, Instance

File = Annotated[
    Path,
    typer.Argument(help="JSON file of the published format.", show_default=False, metavar="FILE"),
]
TimeLimit = Annotated[float, typer.Option("--time-limit", help="Seconds that it may take.")]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Write the split, in the published format.", metavar="FILE"),
]
Objective = Annotated[
    Literal["latency", "throughput"],
    typer.Option(help="What to make small: latency, or the largest load of any device."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the search.")]

_MOST_PROCESSES = 8
"""More searches beside each other find little more."""


def placement(
    file: File,
    time_limit: TimeLimit = 10.0,
    out: Out = None,
    objective: Objective = "latency",
    seed: Seed = 0,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Split a DNN graph over accelerators and CPUs: a placement problem in FILE.

    The format is that of the code of "Efficient Algorithms for Device Placement of DNN Graph
    Operators" (NeurIPS 2020). Nothing is measured, and no device is touched.
    """
    begin = time.monotonic()
    if out is not None:
        check_output(out, SPLIT, [file])
    with progress("placement", quiet=as_json) as say:
        from dioe.hardware import discover_host
        from dioe.planning.splits import find_split, read_instance, split_text

        say("reading")
        instance = read_instance(file)
        say(f"searching, for {time_limit:g} s in all")
        cores = int(discover_host().capacity or 1)
        answer = find_split(
            instance,
            objective=objective,
            time_limit_s=_left(time_limit, begin),
            seed=seed,
            processes=max(1, min(cores, _MOST_PROCESSES)),
        )
    if out is not None:
        write_text(out, split_text(instance, answer.split))
    if as_json:
        options.print_json(_plain(instance, answer, seed, out))
        return
    _print(console(), instance, answer)
    if out is None:
        console().print("the split was not written: no --out")
    else:
        console().print(f"split written to {out}", markup=False)


def _print(shown: Console, instance: Instance, answer: Answer) -> None:
    judgement = answer.judgement
    shown.print(
        f"{_counted(len(instance.nodes), 'node')}, {_counted(len(instance.edges), 'edge')}; "
        f"{_counted(instance.max_accelerators, 'accelerator')} of {size(instance.memory_bytes)}, "
        f"{_counted(instance.max_cpus, 'CPU')}"
    )
    table = new_table("Split")
    table.add_column("device", no_wrap=True)
    for heading in ("nodes", "memory", "used", "compute", "transfers", "load", "start", "finish"):
        table.add_column(heading, justify="right", no_wrap=True)
    busy = [device for device in judgement.devices if device.nodes]
    for device in busy:
        on_cpu = device.kind == "cpu"
        share = "" if on_cpu or not instance.memory_bytes else _share(instance, device)
        table.add_row(
            device.name, str(device.nodes), "" if on_cpu else size(device.size_bytes), share,
            _number(device.compute), "" if on_cpu else _number(device.transfers),
            _number(device.load), _number(device.start), _number(device.finish),
        )  # fmt: skip
    shown.print(table)
    latency, load = _number(judgement.latency), _number(judgement.max_load)
    best = f"no split is below {_number(answer.bound)}"
    if answer.objective == "latency":
        shown.print(f"latency {latency} ({best}), largest load {load}")
    else:
        shown.print(f"largest load {load}, latency {latency} ({best})")
    shown.print(f"{answer.moves} moves tried in {answer.seconds:.1f} s")


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _share(instance: Instance, device: Device) -> str:
    return f"{device.size_bytes / instance.memory_bytes:.1%}"


def _number(value: float | None) -> str:
    """A time of the file's own unit, in 7 columns (the table fits into 80 then)."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 1000 else f"{value:.2f}" if value < 10_000 else f"{value:.6g}"


def _plain(instance: Instance, answer: Answer, seed: int, out: Path | None) -> dict[str, Any]:
    judgement = answer.judgement
    return {
        "objective": answer.objective,
        "latency": judgement.latency,
        "max_load": judgement.max_load,
        "latency_bound": answer.bound,
        "faults": list(judgement.faults),
        "memory_bytes": instance.memory_bytes,
        "devices": [
            {
                "kind": device.kind,
                "index": device.index,
                "nodes": device.nodes,
                "size_bytes": device.size_bytes,
                "compute": device.compute,
                "transfers": device.transfers,
                "load": device.load,
                "start": device.start,
                "finish": device.finish,
            }
            for device in judgement.devices
        ],
        "nodes": len(instance.nodes),
        "edges": len(instance.edges),
        "seed": seed,
        "moves": answer.moves,
        "seconds": answer.seconds,
        "out": None if out is None else str(out),
    }


def _left(time_limit_s: float, begin: float) -> float:
    """What is left of the time limit: half of it at least, as something has to be found."""
    if not time_limit_s > 0:
        return time_limit_s  # refused as it was given
    return max(time_limit_s - _AROUND_S - (time.monotonic() - begin), time_limit_s / 2)


_AROUND_S = 0.4
"""What Python takes to start and to end, and the output, as measured on a 2020s server core."""
