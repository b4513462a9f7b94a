"""Operators of ai.onnx.ml, over numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .core import Compute, Constant, Node, Unsupported, lowers, numbers_of

_ML = "ai.onnx.ml"


@lowers("Binarizer", domain=_ML)
def _binarizer(node: Node) -> Compute:
    threshold = float(node.attr("threshold", 0.0))
    return lambda x: (x > threshold).to(x.dtype)


# --- LabelEncoder --------------------------------------------------------------------------------


def _numbers(node: Node, name: str) -> np.ndarray:
    """Keys or values, of whichever type."""
    if node.attr(name + "_strings", None) is not None:
        raise Unsupported(f"{node.type} with {name}_strings: torch has no string tensors")
    for kind, dtype in (("floats", np.float32), ("int64s", np.int64)):
        found = node.attr(f"{name}_{kind}", None)
        if found is not None:
            return np.asarray(found, dtype)
    return numbers_of(node.attr(name + "_tensor")).reshape(-1)


@lowers("LabelEncoder", domain=_ML, lowered=False)
def _strings_to_ints(node: Node) -> Compute:
    raise Unsupported("LabelEncoder of version 1 is about strings: torch has no such tensors")


@lowers("LabelEncoder", since=2, domain=_ML, lowered=False)
def _label_encoder(node: Node) -> Compute:
    keys, values = _numbers(node, "keys"), _numbers(node, "values")
    default: Any = node.attr("default_tensor", None)
    if isinstance(default, Constant):
        default = numbers_of(default).reshape(()).item()
    elif values.dtype.kind == "f":
        default = float(node.attr("default_float", -0.0))
    else:
        default = int(node.attr("default_int64", -1))
    # found by bisection: keys in order, without NaN, the last of equal ones
    nan = np.isnan(keys) if keys.dtype.kind == "f" else np.zeros(len(keys), bool)
    latest = {key: i for i, key in enumerate(keys.tolist()) if not nan[i]}
    places = [latest[key] for key in sorted(latest)]
    sorted_keys = torch.from_numpy(keys[places]).to(node.device)
    sorted_values = torch.from_numpy(values[places]).to(node.device)
    nan_value = values[np.flatnonzero(nan)[-1]].item() if nan.any() else None

    def compute(x: torch.Tensor) -> torch.Tensor:
        if len(places) == 0:
            y = torch.full_like(x, default, dtype=sorted_values.dtype)
        else:
            at = torch.searchsorted(sorted_keys, x).clamp(max=len(places) - 1)
            y = sorted_values[at].masked_fill(sorted_keys[at] != x, default)
        return y if nan_value is None else y.masked_fill(x.isnan(), nan_value)

    return compute


# --- TreeEnsemble --------------------------------------------------------------------------------

_LEQ, _LT, _GTE, _GT, _EQ, _NEQ, _MEMBER = range(7)

_BELOW, _AT, _ABOVE = (_LEQ, _LT, _NEQ), (_LEQ, _GTE, _EQ), (_GTE, _GT, _NEQ)
"""The modes that go on where a feature is below, at or above the split."""

_AVERAGE, _SUM, _MIN, _MAX = range(4)


@lowers("TreeEnsemble", since=5, domain=_ML, lowered=False)
def _tree_ensemble(node: Node) -> Compute:
    """All trees at once, from their roots down; leaves come after the nodes and lead to
    themselves."""
    trees = _Trees(node)
    targets, how = int(node.attr("n_targets")), int(node.attr("aggregate_function", _SUM))
    transform = int(node.attr("post_transform", 0))
    if transform:  # onnx.reference has none; ONNX Runtime takes 1 and 2 the other way around
        raise Unsupported(f"TreeEnsemble with post_transform={transform}")

    def compute(x: torch.Tensor) -> torch.Tensor:
        weights, ids = trees.leaves(x)
        if how in (_AVERAGE, _SUM):
            y = x.new_zeros((len(x), targets)).scatter_add(1, ids, weights)
            y = y / weights.shape[1] if how == _AVERAGE else y
        else:
            limits = torch.finfo(x.dtype)
            start = limits.max if how == _MIN else limits.min
            y = x.new_full((len(x), targets), start)
            y = y.scatter_reduce(1, ids, weights, "amin" if how == _MIN else "amax")
        return y

    return compute


class _Trees:
    def __init__(self, node: Node) -> None:
        modes = numbers_of(node.attr("nodes_modes")).astype(np.int64)
        n, leaf_weights = len(modes), numbers_of(node.attr("leaf_weights"))
        n_leaves = len(leaf_weights)

        def ints(name: str, leaves: int | np.ndarray, default: Any = None) -> torch.Tensor:
            found = np.asarray(node.ints(name, default), np.int64)
            return whole(found, leaves)

        def whole(nodes: np.ndarray, leaves: int | np.ndarray) -> torch.Tensor:
            rest = np.full(n_leaves, leaves, nodes.dtype) if np.ndim(leaves) == 0 else leaves
            return torch.from_numpy(np.concatenate([nodes, rest])).to(node.device)

        def branch(side: str) -> torch.Tensor:
            ids = np.asarray(node.ints(f"nodes_{side}nodeids"), np.int64)
            is_leaf = np.asarray(node.ints(f"nodes_{side}leafs"), np.int64)
            return whole(ids + n * is_leaf, n + np.arange(n_leaves))

        self.roots = torch.tensor(node.ints("tree_roots"), device=node.device)
        self.features = ints("nodes_featureids", 0)
        self.yes, self.no = branch("true"), branch("false")
        self.splits = whole(numbers_of(node.attr("nodes_splits")), 0)
        self.below = whole(np.isin(modes, _BELOW), False)
        self.at = whole(np.isin(modes, _AT), False)
        self.above = whole(np.isin(modes, _ABOVE), False)
        missing = np.asarray(node.ints("nodes_missing_value_tracks_true", (0,) * n), bool)
        self.missing = whole(missing | (modes == _NEQ), False)
        self.weights = torch.from_numpy(np.array(leaf_weights)).to(node.device)
        self.targets = torch.tensor(node.ints("leaf_targetids"), device=node.device)
        self.members = self._members(node, modes, n_leaves)
        self.depth = _depth(node)
        self.n = n

    def _members(self, node: Node, modes: np.ndarray, n_leaves: int) -> torch.Tensor | None:
        """What each node looks for (nodes and leaves, most), filled with NaN; None without such."""
        wanted = np.flatnonzero(modes == _MEMBER)
        if not len(wanted):
            return None
        values = numbers_of(node.attr("membership_values"))
        sets = np.split(values, np.flatnonzero(np.isnan(values)) + 1)[: len(wanted)]
        table = np.full((len(modes) + n_leaves, max(map(len, sets))), np.nan, values.dtype)
        for row, members in zip(wanted, sets):
            table[row, : len(members)] = members
        return torch.from_numpy(table).to(node.device)

    def leaves(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and targets of the leaves that rows come to (rows, trees)."""
        at = self.roots.expand(len(x), -1)
        for _ in range(self.depth):
            value, split = x.gather(1, self.features[at]), self.splits[at]
            go = (value < split) & self.below[at]
            go = go | ((value == split) & self.at[at]) | ((value > split) & self.above[at])
            if self.members is not None:
                go = go | (value.unsqueeze(-1) == self.members[at]).any(-1)
            go = go | (value.isnan() & self.missing[at])
            at = torch.where(go, self.yes[at], self.no[at])
        return self.weights[at - self.n], self.targets[at - self.n]


def _depth(node: Node) -> int:
    """How many nodes there are at most between a root and a leaf."""
    sides = [
        (node.ints(f"nodes_{side}nodeids"), node.ints(f"nodes_{side}leafs"))
        for side in ("true", "false")
    ]
    level, depth = set(node.ints("tree_roots")), 0
    while level:
        level = {ids[i] for ids, leafs in sides for i in level if not leafs[i]}
        depth += 1
        if depth > len(sides[0][0]):
            raise Unsupported("TreeEnsemble with a cycle")
    return depth
