"""``dioe verify``: is what a device computes right, and how fast is it, by each backend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dioe.cli import options
from dioe.cli.files import VERIFICATION, check_output, write_text
from dioe.cli.terminal import progress

FAILED = 1
"""Exit code where something is wrong with the device or a backend."""

Device = Annotated[
    str, typer.Option("--device", help="The device, as `dioe devices` names it.", metavar="ID")
]
Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        help="A backend to verify it with; may be repeated. Without: all that can use it.",
        metavar="NAME",
    ),
]
Check = Annotated[
    list[str] | None,
    typer.Option(
        "--check",
        help="Only this: correctness (or correctness.SECTION), transfers, graphs, timings.",
        metavar="NAME",
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", help="Write the report there too.", metavar="FILE")
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", help="Seconds that the conformance kit may take.", min=1.0),
]


def verify(
    device: Device,
    backend: Backends = None,
    check: Check = None,
    output: Output = None,
    timeout: Timeout = 3600.0,
    verbose: options.Verbose = 0,
    debug: options.Debug = False,
) -> None:
    """Judge and time a device by its backends; prints one JSON report."""
    from dioe.cli.verification.report import Checks
    from dioe.cli.verification.report import verify as verified
    from dioe.cli.verification.subjects import find_subject
    from dioe.hardware import pool_from
    from dioe.runtime import Runtime

    if output is not None:
        check_output(output, VERIFICATION, [])
    checks = Checks.parse(check or ())
    with progress("verifying") as say:
        say("looking for devices")
        registry = Runtime.current().registry
        subject = find_subject(registry, device, backend or ())
        checks.check_kit()
        report = verified(
            registry, pool_from(None), subject, checks, timeout_s=timeout, progress=say
        )
    if output is not None:
        write_text(output, options.json_text(report))
    options.print_json(report)
    if not report["verdict"]["ok"]:
        raise typer.Exit(FAILED)
