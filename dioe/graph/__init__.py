"""ONNX models as graphs of ops: loading, shapes, costs, blocks, and back to ONNX."""

from dioe.graph.model import Model

__all__ = ["Model"]
