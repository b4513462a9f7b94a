"""Splits of DNN graphs over accelerators and CPUs, in a published benchmark's format.

Placement instances of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph
Operators" (NeurIPS 2020): reading them, judging splits as their programs do, and finding good ones.
"""

from dioe.planning.splits.find import Answer, find_split
from dioe.planning.splits.instance import Instance, Node, parse_instance, read_instance
from dioe.planning.splits.judge import Device, Judgement, Split, judge
from dioe.planning.splits.objectives import ObjectiveName
from dioe.planning.splits.split_file import parse_split, read_split, split_text

__all__ = [
    "Answer",
    "Device",
    "Instance",
    "Judgement",
    "Node",
    "ObjectiveName",
    "Split",
    "find_split",
    "judge",
    "parse_instance",
    "parse_split",
    "read_instance",
    "read_split",
    "split_text",
]
