"""``dioe plan`` on devices that aren't here: by figures alone, and pools beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dioe.cli import options
from dioe.cli.files import MODELLED_PLAN, PICTURE_SVG, TRACE, Kind, check_output, write_files
from dioe.cli.modelled_text import comparison_data, print_comparison, print_modelled
from dioe.cli.terminal import console, emit, progress
from dioe.types import InputError, UnsupportedError

if TYPE_CHECKING:
    from dioe.hardware.limits import Limits
    from dioe.tuning import Asked, ModelledPlan, Search

Policy = Annotated[
    str,
    typer.Option(
        help="latency, throughput, efficiency or memory; modelled plans have all of them, measured "
        "ones latency."
    ),
]
Latency = Annotated[
    float | None,
    typer.Option("--latency", help="What a request may take at most, in ms.", metavar="MS"),
]
Timelines = Annotated[
    list[Path] | None,
    typer.Option(
        "--timeline", help="A modelled plan's timeline: .svg is a picture, .json a Perfetto trace.",
        metavar="FILE",
    ),
]  # fmt: skip
Modelled = Annotated[
    bool, typer.Option("--modelled", help="Plan by figures alone, though the devices are here.")
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Compare the pools named after MODEL, by figures alone.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit", min=0, metavar="S",
        help="Seconds to look for a better modelled plan; without it a fixed amount of work.",
    ),
]  # fmt: skip

_WRITERS: dict[str, Kind] = {".svg": PICTURE_SVG, ".json": TRACE}


@dataclass(frozen=True)
class Wish:
    """What the command line asks of a modelled plan."""

    model: str
    devices: str = "auto"
    pins: Sequence[str] = ()
    strict: bool = False
    limits: Limits | None = None
    latency_ms: float | None = None
    precision: str = "fp32"
    policy: str = "latency"
    time_limit_s: float | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    as_json: bool = False

    def asked(self) -> Asked:
        """What planning is asked for."""
        from dioe.hardware.limits import Limits
        from dioe.tuning import Asked
        from dioe.tuning.modelled_plan import device_ids

        named = device_ids(self.devices)
        return Asked(
            tuple(dict.fromkeys(name.partition("/")[0] for name in named)), self.precision,
            self.limits or Limits(), self.latency_ms, tuple(self.pins), strict=self.strict,
        )  # fmt: skip

    def search(self) -> Search:
        """What to optimise, and how long to look."""
        from dioe.tuning import Search

        return Search(self.policy, self.time_limit_s)


def absent(hardware: str | None, devices: str) -> Mapping[str, str]:
    """Devices of the pool that aren't on this machine, with reasons: where there is one, a plan is
    modelled. Without a pool all are here."""
    if hardware is None:
        return {}
    from dioe.hardware import pool_from
    from dioe.hardware.presence import absent_devices
    from dioe.runtime import Runtime
    from dioe.tuning.modelled_plan import device_ids

    named = {name.partition("/")[0] for name in device_ids(devices)}
    return absent_devices(pool_from(hardware), Runtime.current().registry.placements, named)


def check_measured(policy: str, latency_ms: float | None, timelines: Sequence[Path] | None) -> None:
    """Raise InputError for what only modelled plans have."""
    given = {
        f"--policy {policy}": policy != "latency",
        "--latency": latency_ms is not None,
        "--timeline": bool(timelines),
    }
    for option, is_given in given.items():
        if is_given:
            raise InputError(
                f"{option} is for modelled plans, and all devices of this pool are here to be "
                "measured",
                place=option.partition(" ")[0],
                fix="add --modelled to plan by figures alone, or leave it out",
            )


def check_modelled(context: typer.Context, *, compare: bool) -> None:
    """Raise InputError for an option on the command line that only measuring could follow, or that
    is of one plan where pools are compared."""
    for option in _given(context, "inputs", "tuning_budget", "max_relative_l2"):
        raise InputError(
            f"{option} is for measuring, and this plan is modelled: nothing is run",
            place=option,
            fix="leave it out; --shape gives the shapes of inputs",
        )
    one = ("hardware", "output", "timeline", "explain", "every_block")
    for option in _given(context, *one) if compare else ():
        raise InputError(
            f"{option} is of one plan, and --compare makes several",
            place=option,
            fix="leave it out; pools are named behind the model",
        )


def _given(context: typer.Context, *names: str) -> Iterator[str]:
    """Options among ``names`` that are on the command line."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            yield max(parameter.opts, key=len)


def show_modelled(
    wish: Wish,
    hardware: str | None,
    *,
    away: Mapping[str, str],
    output: Path | None,
    timelines: Sequence[Path],
    explain: bool,
    every: bool,
) -> None:
    """Make a modelled plan, write what is asked for, and print it."""
    _check_files(output, timelines, [wish.model, hardware])
    from dioe.tuning.modelled_plan import named_pool, plan_work
    from dioe.tuning.modelled_work import work_of

    with progress("planning", quiet=wish.as_json):
        search = wish.search()
        pool, name = named_pool(hardware)
        found = plan_work(work_of(wish.model, wish.shapes), pool, name, wish.asked(), search)
    contents = {file: _writer(file)(found) for file in timelines}
    if output is not None:
        contents[output] = found.to_json(explain=explain)
    write_files({file: text.encode() for file, text in contents.items()})
    if wish.as_json:
        emit(found.to_json(explain=explain))
        return
    out = console()
    print_modelled(out, found, away, explain=explain, every=every)
    for file in timelines:
        out.print(f"timeline written to {file}", markup=False)
    if output is not None:
        out.print(f"modelled plan written to {output}: it can't be run", markup=False)


def show_comparison(wish: Wish, pools: Sequence[str]) -> None:
    """Plan on each pool, once if it is named twice, and print a table."""
    if not pools:
        raise InputError(
            "there is nothing to compare", place="--compare",
            fix="name pools behind the model: dioe plan model.onnx --compare server-a100 mine.yaml",
        )  # fmt: skip
    from dioe.tuning import compare_pools

    with progress("planning", quiet=wish.as_json) as say:
        rows = compare_pools(
            wish.model, list(dict.fromkeys(pools)), asked=wish.asked(), search=wish.search(),
            shapes=wish.shapes, progress=say,
        )  # fmt: skip
    if wish.as_json:
        options.print_json(comparison_data(rows, wish.policy))
    else:
        print_comparison(console(), rows, wish.policy)
    if all(row.plan is None for row in rows):
        raise UnsupportedError(
            "no pool has a plan", place="--compare", fix="the reasons are below the table"
        )


def _check_files(
    output: Path | None, timelines: Sequence[Path], read: Sequence[str | None]
) -> None:
    named = [*timelines, *([output] if output is not None else [])]
    for file in named:
        if len([other for other in named if other.absolute() == file.absolute()]) > 1:
            raise InputError("is named twice", place=str(file), fix="give each file its own name")
    for file in timelines:
        _writer(file)
        check_output(file, _WRITERS[file.suffix], read)
    if output is not None:
        check_output(output, MODELLED_PLAN, read)


def _writer(file: Path) -> Callable[[ModelledPlan], str]:
    """What writes a timeline of that kind; raises InputError for another suffix."""
    if file.suffix not in _WRITERS:
        raise InputError(
            f"a timeline is a picture (.svg) or a trace (.json), not {file.suffix or 'a name'!r}",
            place=str(file), fix="name it timeline.svg or timeline.json",
        )  # fmt: skip
    from dioe.tuning import ModelledPlan

    return ModelledPlan.to_svg if file.suffix == ".svg" else ModelledPlan.to_trace
