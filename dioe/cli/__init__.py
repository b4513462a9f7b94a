"""The ``dioe`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    import sys

    _open_closed_streams()
    try:
        from dioe.cli.app import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Standard streams that were closed (``2>&-``) become ``/dev/null``.

    Else ``print`` puts errors on stdout, and the next file that is opened becomes the stream.
    """
    import os
    import sys

    for name in ("stdin", "stdout", "stderr"):  # in the order of their numbers
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)  # by workers, for which the same holds
            stream = os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8")
            setattr(sys, name, stream)
