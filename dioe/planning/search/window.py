"""A window of an order as a shop of its own."""

# ruff: noqa: PLR1730 - these loops are what a search spends its time in, and max() costs a call

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from operator import add

from dioe.planning.search.lanes import Lanes
from dioe.planning.search.shop import Cross, Shop


def window(lanes: Lanes, first: int, last: int, room: Sequence[float], *, rest: bool) -> Shop:
    """The blocks at the places ``first`` to ``last`` (excluded) of the order. ``room`` is what all
    devices have without any block; without ``rest`` paths around the window aren't looked for."""
    shop, device, finish, tail = lanes.shop, lanes.device, lanes.finish, lanes.tail
    chosen = lanes.order[first:last]
    place = {i: k for k, i in enumerate(chosen)}
    devices = range(len(shop.lanes_of))
    begin, leave, sources, sinks = [], [], [], []
    for i in chosen:
        come, go = list(shop.begin[i]), list(shop.leave[i])
        inner: list[tuple[int, Cross]] = []
        for s, cross in shop.sources[i]:
            if s in place:
                inner.append((place[s], cross))
                continue
            row, now = cross[device[s]], finish[s]
            for d in devices:
                if now + row[d] > come[d]:
                    come[d] = now + row[d]
        outer: list[tuple[int, Cross]] = []
        for s, cross in shop.sinks[i]:
            if s in place:
                outer.append((place[s], cross))
                continue
            now, to = tail[s], device[s]
            for d in devices:
                if now + cross[d][to] > go[d]:
                    go[d] = now + cross[d][to]
        begin.append(come)
        leave.append(go)
        sources.append(inner)
        sinks.append(outer)
    free, behind = _around_lanes(lanes, first, last)
    # a lane that the window leaves empty is a path past it, too
    past = max(map(add, free, behind))
    ms = [shop.ms[i] for i in chosen]
    groups = []
    for group in shop.groups:
        own = [place[i] for i in group if i in place]
        if len(own) == len(group):
            groups.append(own)
            continue
        for k in own:  # the others of its group stay where they are
            stays = device[chosen[k]]
            ms[k] = [each if d == stays else math.inf for d, each in enumerate(ms[k])]
    left = list(room)
    if min(left) < math.inf:
        for i, d in enumerate(device):
            if i not in place:
                left[d] -= shop.weights[i][d]
    return Shop(
        [shop.blocks[i] for i in chosen],
        sources,
        sinks,
        ms,
        [shop.fastest[i] for i in chosen],
        begin,
        leave,
        [shop.weights[i] for i in chosen],
        [shop.able[i] for i in chosen],
        groups,
        shop.lanes_of,
        free,
        behind,
        left,
        max(past, _past(lanes, first, last)) if rest else past,
    )


def _around_lanes(lanes: Lanes, first: int, last: int) -> tuple[list[float], list[float]]:
    """When each lane is free for a window, and what follows on it."""
    free, behind = list(lanes.shop.free), list(lanes.shop.behind)
    for lane, row in enumerate(lanes.sequence):
        low = bisect_left(row, first, key=lanes.at.__getitem__)
        high = bisect_left(row, last, key=lanes.at.__getitem__)
        if low:
            free[lane] = lanes.finish[row[low - 1]]
        if high < len(row):
            behind[lane] = lanes.tail[row[high]]
    return free, behind


def _past(lanes: Lanes, first: int, last: int) -> float:
    """The longest path that touches none of a window's blocks."""
    shop, at, device, finish, tail = lanes.shop, lanes.at, lanes.device, lanes.finish, lanes.tail
    longest = shop.rest_ms
    for i in lanes.order[:first]:
        now = finish[i] + shop.leave[i][device[i]]
        if now > longest:
            longest = now
    for i in lanes.order[last:]:
        d = device[i]
        now = shop.begin[i][d]
        for s, cross in shop.sources[i]:
            if at[s] < first and finish[s] + cross[device[s]][d] > now:
                now = finish[s] + cross[device[s]][d]
        if now + tail[i] > longest:
            longest = now + tail[i]
    return longest
