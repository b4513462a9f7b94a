"""Splits as files, in the published format: the ids of the nodes that each device has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dioe.planning.splits.instance import Instance, load_json
from dioe.planning.splits.judge import Split
from dioe.types import InputError


def split_text(instance: Instance, split: Split) -> str:
    """A split as JSON, a line each device."""

    def listed(devices: tuple[tuple[int, ...], ...]) -> str:
        lines = [
            json.dumps({"nodes": [instance.nodes[node].id for node in held]}) for held in devices
        ]
        return "[\n    " + ",\n    ".join(lines) + "\n  ]" if lines else "[]"

    return f'{{\n  "cpus": {listed(split.cpus)},\n  "fpgas": {listed(split.accelerators)}\n}}\n'


def read_split(path: str | Path, instance: Instance) -> Split:
    """Read a split of an instance; raises InputError with the file and the device."""
    return parse_split(load_json(path), instance, str(path))


def parse_split(content: object, instance: Instance, place: str) -> Split:
    """The split that a JSON value describes; ``place`` names it in errors (InputError).

    Whether it is a good one, ``judge`` says: nodes may be missing here, or on two devices.
    """
    index = {node.id: position for position, node in enumerate(instance.nodes)}
    read: dict[str, tuple[tuple[int, ...], ...]] = {}
    for key in ("cpus", "fpgas"):
        listed = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(listed, list):
            raise InputError(
                "a list of devices is missing", place=f"{place}: {key}", fix='write {"nodes": […]}'
            )
        devices = []
        for number, device in enumerate(listed):
            here = f"{place}: {key}[{number}].nodes"
            ids = device.get("nodes") if isinstance(device, Mapping) else None
            if not isinstance(ids, list):
                raise InputError("a list of ids is missing", place=here, fix="write one")
            for each in ids:
                if isinstance(each, bool) or not isinstance(each, int) or each not in index:
                    raise InputError(
                        f"{json.dumps(each)[:40]} is the id of no node",
                        place=here,
                        fix="name nodes of the instance",
                    )
            devices.append(tuple(index[each] for each in ids))
        read[key] = tuple(devices)
    return Split(cpus=read["cpus"], accelerators=read["fpgas"])
