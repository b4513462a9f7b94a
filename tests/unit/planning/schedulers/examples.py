"""Problems that papers print with their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dioe.planning import Problem, task_problem

# Topcuoglu, Hariri and Wu 2002, figure 2 (their tasks count from 1): HEFT 80, CPOP 86.
TOPCUOGLU_MS = (
    (14, 16, 9), (13, 19, 18), (11, 13, 19), (13, 8, 17), (12, 13, 10),
    (13, 16, 9), (7, 15, 11), (5, 11, 14), (18, 12, 20), (21, 7, 16),
)  # fmt: skip
TOPCUOGLU_EDGES = {
    (0, 1): 18, (0, 2): 12, (0, 3): 9, (0, 4): 11, (0, 5): 14, (1, 7): 19, (1, 8): 16, (2, 6): 23,
    (3, 7): 27, (3, 8): 23, (4, 8): 13, (5, 7): 15, (6, 9): 17, (7, 9): 11, (8, 9): 13,
}  # fmt: skip

# Arabnejad and Barbosa 2014, figure 1: PEFT 122, lookahead 127, HEFT 133.
ARABNEJAD_MS = (
    (22, 21, 36), (22, 18, 18), (32, 27, 43), (7, 10, 4), (29, 27, 35),
    (26, 17, 24), (14, 25, 30), (29, 23, 36), (15, 21, 8), (13, 16, 33),
)  # fmt: skip
ARABNEJAD_EDGES = {
    (0, 1): 17, (0, 2): 31, (0, 3): 29, (0, 4): 13, (0, 5): 7, (1, 7): 3, (1, 8): 30, (2, 6): 16,
    (3, 7): 11, (3, 8): 7, (4, 8): 57, (5, 7): 5, (6, 9): 9, (7, 9): 42, (8, 9): 7,
}  # fmt: skip


def example(ms: Sequence[Sequence[float]], edges: Mapping[tuple[int, int], float]) -> Problem:
    """The problem of one of them."""
    return task_problem(ms, list(edges), edge_ms=edges)


def topcuoglu() -> Problem:
    """The example of the paper on HEFT and CPOP."""
    return example(TOPCUOGLU_MS, TOPCUOGLU_EDGES)


def arabnejad() -> Problem:
    """The example of the paper on PEFT."""
    return example(ARABNEJAD_MS, ARABNEJAD_EDGES)
