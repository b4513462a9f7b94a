"""ONNX models as graphs of ops: loading, shapes, costs, blocks, and back to ONNX."""

from dioe.graph.inputs import make_inputs
from dioe.graph.model import Model

__all__ = ["Model", "make_inputs"]
