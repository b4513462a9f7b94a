"""The ``dioe`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    import sys

    try:
        from dioe.cli.app import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
