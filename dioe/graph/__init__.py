"""ONNX models as graphs of ops: loading, shapes, costs, blocks, and back to ONNX."""

from dioe.graph.blocks import Block, find_blocks
from dioe.graph.extract import GraphError, boundaries, extract, stage_io
from dioe.graph.folding import RANDOM
from dioe.graph.inputs import make_inputs
from dioe.graph.kernels import Kernel, find_kernels
from dioe.graph.model import Model, Source
from dioe.graph.opgraph import OpGraph, OpInfo, ValueInfo
from dioe.graph.partition import is_convex, quotient
from dioe.graph.patterns import CONTROL, CONV, MATMUL, NORM, RECURRENT
from dioe.graph.rebuild import StageGraph, rebuild

__all__ = [
    "CONTROL",
    "CONV",
    "MATMUL",
    "NORM",
    "RANDOM",
    "RECURRENT",
    "Block",
    "GraphError",
    "Kernel",
    "Model",
    "OpGraph",
    "OpInfo",
    "Source",
    "StageGraph",
    "ValueInfo",
    "boundaries",
    "extract",
    "find_blocks",
    "find_kernels",
    "is_convex",
    "make_inputs",
    "quotient",
    "rebuild",
    "stage_io",
]
