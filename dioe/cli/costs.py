"""Measured costs that commands keep between runs, whatever ends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dioe.profiling import History

_measures = False


def start() -> None:
    """A command starts, and has measured nothing."""
    global _measures  # noqa: PLW0603 - one command runs at a time in a process
    _measures = False


def history() -> History:
    """The history in the cache, for a command that measures: what it has there isn't measured
    again, and each cost is kept as soon as it is known."""
    global _measures  # noqa: PLW0603
    from dioe.cachedir import cache_dir
    from dioe.profiling import History

    _measures = True
    return History(cache_dir())


def interrupted_text() -> str:
    """What Ctrl-C left behind."""
    if not _measures:
        return "interrupted; nothing was written"
    kept = history()
    unwritten = kept.flush()
    if unwritten:
        return f"interrupted; nothing was written: {unwritten} costs can't be kept in {kept.path}"
    return "interrupted; nothing was written but the costs measured so far, which are kept"
