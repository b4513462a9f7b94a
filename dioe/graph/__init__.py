"""ONNX models as graphs of ops: loading, shapes, costs, blocks, and back to ONNX."""

from dioe.graph.blocks import Block, find_blocks
from dioe.graph.inputs import make_inputs
from dioe.graph.model import Model
from dioe.graph.opgraph import OpGraph, OpInfo, ValueInfo
from dioe.graph.partition import is_convex, quotient

__all__ = [
    "Block",
    "Model",
    "OpGraph",
    "OpInfo",
    "ValueInfo",
    "find_blocks",
    "is_convex",
    "make_inputs",
    "quotient",
]
