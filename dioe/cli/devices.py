"""``dioe devices``: what this machine has, and which backends can use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dioe.cli import options
from dioe.cli.files import POOL, check_output
from dioe.cli.pool_text import catalogue_json, pool_json, print_catalogue, print_pool
from dioe.cli.terminal import console, new_table
from dioe.text import printable
from dioe.types import DeviceInfo, InputError, KnownAs

Catalogue = Annotated[
    bool, typer.Option("--catalogue", help="List the devices and pools that come with DIOE.")
]


def devices(
    hardware: options.Hardware = None,
    write: options.WritePool = None,
    catalogue: Catalogue = False,
    as_json: options.Json = False,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """List the devices, and the backends with their states and reasons."""
    if catalogue:
        if write is not None:
            raise InputError(
                "the catalogue isn't written: --write writes a pool of this machine's devices",
                place="--catalogue",
                fix="leave one of the two out; a pool names devices of the catalogue by their ids",
            )
        _print_catalogue(as_json)
        return
    from dioe.hardware import machine, pool_from, save_pool, with_devices
    from dioe.runtime import Runtime

    if write is not None:
        check_output(write, POOL, [hardware])
    pool = pool_from(hardware)
    registry = Runtime.current().registry
    if hardware is None:  # as tuning does without --hardware: a file of it is to behave alike
        pool = with_devices(pool, registry.placements)
    if write is not None:
        save_pool(pool, write)
    host = machine(pool)
    if as_json:
        options.print_json(
            {
                "machine": host,
                "pool": pool_json(pool),
                "devices": [
                    {**asdict(p.device), "backends": sorted(p.backends)}
                    for p in registry.placements
                ],
                "backends": [asdict(status) for status in registry.statuses],
            }
        )
        return
    out = console()
    print_pool(out, pool, "This machine" if hardware is None else "The pool")
    _print_modelled(out, [p.device for p in registry.placements])
    table = new_table("Backends")
    for heading in ("backend", "state", "version", "devices"):
        table.add_column(heading, overflow="fold")
    style = {"ready": "green", "absent": "dim"}
    for status in registry.statuses:
        seen = ", ".join(_known(p.device) for p in registry.placements if status.name in p.backends)
        table.add_row(
            escape(printable(status.name)), f"[{style.get(status.state, 'red')}]{status.state}[/]",
            escape(printable(status.version)), seen or "-",
        )  # fmt: skip
    out.print(table)
    for status in registry.statuses:
        if status.reason:
            words = " ".join(status.reason.split())
            out.print(printable(f"{status.name} is {status.state}: {words}"), markup=False)


def _print_catalogue(as_json: bool) -> None:
    if as_json:
        options.print_json(catalogue_json())
    else:
        print_catalogue(console())


def _print_modelled(out: Console, devices: Sequence[DeviceInfo]) -> None:
    """A table of the devices that are descriptions only, if there are any."""
    modelled = [device for device in devices if device.known_as is KnownAs.MODELLED]
    if not modelled:
        return
    table = new_table("Modelled devices, used only when named with their backend (npu:0/null)")
    for heading in ("device", "name"):
        table.add_column(heading, overflow="fold")
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("link", justify="right", no_wrap=True)
    for device in modelled:
        memory = "-" if device.memory_bytes is None else f"{device.memory_bytes / 2**30:.1f} GiB"
        gbps, us = (device.details.get(f"link_{n}") for n in ("bandwidth_gbps", "latency_us"))
        link = "-" if gbps is None or us is None else f"{gbps:g} GB/s, {us:g} µs"
        table.add_row(device.id, escape(printable(device.name)), memory, link)
    out.print(table)


def _known(device: DeviceInfo) -> str:
    """A device's id, and how it is known where it isn't the real thing."""
    return device.id if device.known_as is KnownAs.HARDWARE else f"{device.id} ({device.known_as})"
