"""Searching for better schedules from one that is known.

Import from here: ``improve`` and ``search`` for any problem and policy, ``decode`` for schedules
from priorities.
"""

from dioe.planning.search.decode import decode, upward_ranks
from dioe.planning.search.improve import Searched, improve, search

__all__ = ["Searched", "decode", "improve", "search", "upward_ranks"]
