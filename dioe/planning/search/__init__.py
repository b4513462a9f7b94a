"""Searching for better schedules from one that is known.

Import from here: ``improve`` for any problem and policy; ``decode`` for schedules from priorities.
"""

from dioe.planning.search.decode import decode, upward_ranks
from dioe.planning.search.improve import improve

__all__ = ["decode", "improve", "upward_ranks"]
