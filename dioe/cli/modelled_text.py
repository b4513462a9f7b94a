"""Modelled plans as a person reads them: what a request takes, where, by which figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from dioe.cli.plan_text import print_blocks, print_notes
from dioe.cli.terminal import ms, new_table, size
from dioe.text import printable

if TYPE_CHECKING:
    from dioe.tuning import ModelledPlan, PoolRow

_STAGES = 20
"""In the table, where not all are asked for."""


def print_modelled(
    out: Console,
    plan: ModelledPlan,
    absent: Mapping[str, str],
    *,
    explain: bool = False,
    every: bool = False,
) -> None:
    """All that a modelled plan tells; ``absent`` are the devices that aren't here, with reasons,
    ``every`` folds no stages and blocks."""
    from dioe.planning import gap_text

    out.print(_text(_headline(plan, absent)))
    out.print(_text(_figures(plan)))
    out.print(_text(f"policy {plan.policy}: {gap_text(plan.schedule)}"))
    if plan.shapes:
        listed = (f"{n} {'×'.join(map(str, s)) or 'scalar'}" for n, s in plan.shapes.items())
        out.print(_text(f"for {', '.join(listed)}"))
    _print_devices(out, plan)
    _print_stages(out, plan, every=every)
    if explain:
        print_blocks(out, plan.reasons, {}, every_block=every)
    for device, reason in plan.left_out.items():
        out.print(_text(f"{device} isn't used: {reason}"))
    if absent:
        out.print(_text(f"not here: {'; '.join(f'{d}: {why}' for d, why in absent.items())}"))
    print_notes(out, [*plan.notes, *(f"{t}: {basis}" for t, basis in plan.bases.items())])


def _headline(plan: ModelledPlan, absent: Mapping[str, str]) -> str:
    text = f"modelled on {plan.hardware}: computed from figures of its devices, nothing was run"
    if not absent:
        return text
    return f"{text}, since {_listed(list(absent))} {'is' if len(absent) == 1 else 'are'} not here"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _figures(plan: ModelledPlan) -> str:
    return (
        f"latency {ms(plan.latency_ms)} ms, {rate(plan.throughput_per_s)} requests/s, "
        f"{energy(plan.energy_j)} a request (modelled)"
    )


def rate(per_s: float) -> str:
    """Requests per second with three significant digits or so."""
    return f"{per_s:.3g}" if per_s < 100 else f"{per_s:.0f}"


def energy(joules: float | None) -> str:
    """An energy as a person reads it."""
    if joules is None:
        return "energy unknown"
    return f"{joules * 1e3:.3g} mJ" if joules < 1 else f"{joules:.3g} J"


def _print_devices(out: Console, plan: ModelledPlan) -> None:
    table = new_table("Devices, for one request")
    table.add_column("device", overflow="fold")
    table.add_column("name", overflow="fold")
    for heading in ("busy ms", "power", "energy", "peak memory", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    for device in plan.devices:
        table.add_row(
            _text(device.id), _text(device.name), ms(device.busy_ms),
            "-" if device.busy_w is None else f"{device.busy_w:g} W",
            "-" if device.energy_j is None else energy(device.energy_j),
            size(device.peak_bytes),
            "-" if device.memory_bytes is None else size(device.memory_bytes),
        )  # fmt: skip
    out.print(table)


def _print_stages(out: Console, plan: ModelledPlan, *, every: bool) -> None:
    table = new_table("Stages")
    table.add_column("stage", no_wrap=True)
    table.add_column("target", overflow="fold")
    table.add_column("of", overflow="fold")
    for heading in ("blocks", "start ms", "end ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    from dioe.planning.names import stage_name
    from dioe.planning.tracks import contents

    stages = list(zip(plan.stages, plan.schedule.placement.stages, strict=True))
    shown = stages if every else stages[:_STAGES]
    for number, (stage, placed) in enumerate(shown):
        table.add_row(
            stage_name(number), _text(stage.target), _text(contents(placed)),
            str(len(stage.blocks)), ms(stage.start_ms), ms(stage.end_ms),
        )  # fmt: skip
    out.print(table)
    if len(shown) < len(stages):
        out.print(f"{len(stages) - len(shown)} more stages: --explain --all shows them")


def print_comparison(out: Console, rows: Sequence[PoolRow], policy: str) -> None:
    """A line for each pool, the best by the policy first; below them why some have no plan."""
    table = new_table(f"Modelled, best {policy} first: computed from figures, nothing was run")
    table.add_column("pool", overflow="fold")
    for heading in ("latency ms", "requests/s", "energy"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("devices used", overflow="fold")
    table.add_column("peak memory", overflow="fold")
    table.add_column("fits", no_wrap=True)
    for row in rows:
        name = _text(row.hardware)
        if row.plan is None:
            table.add_row(name, "-", "-", "-", "-", "-", "no")
            continue
        peaks = (f"{d.id} {size(d.peak_bytes)}" for d in row.plan.devices if d.busy_ms > 0)
        table.add_row(
            name, ms(row.plan.latency_ms), rate(row.plan.throughput_per_s),
            energy(row.plan.energy_j).replace("energy unknown", "-"),
            _text(", ".join(row.plan.used)), _text(", ".join(peaks)), "yes",
        )  # fmt: skip
    out.print(table)
    for row in rows:
        if row.plan is None:
            out.print(_text(f"{row.hardware}: {row.reason}"))
    print_notes(out, _common_notes(rows))


def _common_notes(rows: Sequence[PoolRow]) -> list[str]:
    """Notes that all plans have."""
    plans = [row.plan for row in rows if row.plan is not None]
    first = plans[0].notes if plans else ()
    return [note for note in first if all(note in plan.notes for plan in plans)]


def comparison_data(rows: Sequence[PoolRow], policy: str) -> dict[str, Any]:
    """The comparison as plain data for JSON."""
    return {
        "known_as": "modelled",
        "policy": policy,
        "pools": [
            {
                "hardware": row.hardware,
                "fits": row.plan is not None,
                "reason": row.reason,
                "plan": None if row.plan is None else row.plan.to_data(),
            }
            for row in rows
        ],
    }


def _text(text: str) -> str:
    return escape(printable(text))
