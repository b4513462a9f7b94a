"""Coarsening: a problem of many blocks as one of some hundred clusters, and back."""

from dioe.planning.coarsening.coarse import CoarseTables
from dioe.planning.coarsening.hierarchy import CLUSTERS, Hierarchy, hierarchy
from dioe.planning.coarsening.multilevel import Inner, multilevel, multilevel_answers

__all__ = [
    "CLUSTERS",
    "CoarseTables",
    "Hierarchy",
    "Inner",
    "hierarchy",
    "multilevel",
    "multilevel_answers",
]
