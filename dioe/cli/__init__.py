"""The ``dioe`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    import sys

    from dioe.cli.app import run

    sys.exit(run(sys.argv[1:]))
