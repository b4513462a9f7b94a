"""What lowerings are made of: ONNX subgraphs as plain data, what a lowering sees of its op, and
the table of all lowerings.

This package imports torch and numpy only and keeps to the syntax of Python 3.7, so that a worker on
a vendor's old Python can load it by its path. Nothing here writes into a tensor that it was given.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
import torch


class Unsupported(Exception):
    """Torch can't run an op, or not with these attributes; the text is the reason."""


class Constant(NamedTuple):
    """A tensor of a model. ``dtype`` is its ONNX name in lower case (``float``, ``int64``,
    ``bfloat16``, ``float8e4m3fn``); ``data`` has its shape and numpy's dtype, or where numpy itself
    has none the raw bits as unsigned integers of the same size."""

    dtype: str
    data: np.ndarray


class Op(NamedTuple):
    """One node. Missing inputs and outputs are ``""``. ``version`` is that of its opset.

    ``attributes`` are int, float, str, bytes, Constant, Program, or tuples of those. ``precision``
    is what it is to compute in where the model says float32: ``fp32``, ``bf16`` or ``fp16``.
    """

    id: str
    domain: str
    type: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    precision: str = "fp32"


class Program(NamedTuple):
    """A graph: ops in topological order, and its constants by name.

    ``captures`` are values a sub-graph takes from outside (empty at the top). ``output_dtypes`` are
    ONNX names in lower case, ``""`` where unknown or no tensor. ``output_shapes`` have -1 for an
    open size and None for an unknown rank.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[Op, ...]
    constants: dict[str, Constant]
    captures: tuple[str, ...] = ()
    output_dtypes: tuple[str, ...] = ()
    output_shapes: tuple[tuple[int, ...] | None, ...] = ()


# --- dtypes ------------------------------------------------------------------------------------

_TORCH_NAMES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "bool": "bool",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "complex64": "complex64",
    "complex128": "complex128",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
    "float8e8m0": "float8_e8m0fnu",
}

_ENUM = (
    "undefined", "float", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool",
    "float16", "double", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn",
    "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0",
    "uint2", "int2",
)  # fmt: skip
"""Names of ``TensorProto.DataType`` by number (onnx.proto)."""

LOWERED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_name(number: int) -> str:
    """The name of an ONNX element type by its number."""
    if not 0 <= number < len(_ENUM):
        raise Unsupported(f"element type {number} is unknown")
    return _ENUM[number]


def torch_dtype(dtype: str | int) -> torch.dtype:
    """The torch dtype of an ONNX element type (name or number); raises Unsupported."""
    name = dtype if isinstance(dtype, str) else dtype_name(dtype)
    found = getattr(torch, _TORCH_NAMES.get(name, ""), None)
    if found is None:
        raise Unsupported(f"torch has no {name} tensors")
    return found  # type: ignore[no-any-return]


_RAW = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}
_TORCH_RAW = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def to_tensor(constant: Constant) -> torch.Tensor:
    """A tensor on the CPU with a copy of ``constant``; raises Unsupported."""
    dtype = torch_dtype(constant.dtype)
    data = np.array(constant.data, order="C")
    if dtype.is_complex or dtype == torch.bool:
        return torch.from_numpy(data)
    return torch.from_numpy(data.view(_RAW[data.dtype.itemsize])).view(dtype)


_NAMES_OF = {
    getattr(torch, name): key for key, name in _TORCH_NAMES.items() if hasattr(torch, name)
}


def to_constant(tensor: torch.Tensor) -> Constant:
    """The reverse of ``to_tensor``: a copy, on the host."""
    name = _NAMES_OF[tensor.dtype]
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype.is_complex or tensor.dtype == torch.bool:
        return Constant(name, tensor.numpy().copy())
    size = tensor.element_size()
    raw = tensor.view(_TORCH_RAW[size]).numpy().copy()
    numpy_name = _TORCH_NAMES[name]
    if hasattr(np, numpy_name):
        return Constant(name, raw.view(numpy_name))
    return Constant(name, raw.view(np.dtype(f"u{size}")))


def numbers_of(constant: Constant) -> np.ndarray:
    """The value of ``constant`` in a type that numpy has; raises Unsupported."""
    if constant.dtype == "bool" or hasattr(np, _TORCH_NAMES.get(constant.dtype, "")):
        return constant.data
    return to_tensor(constant).float().numpy()


# --- the table ---------------------------------------------------------------------------------

Compute = Callable[..., Any]
"""Takes the op's inputs (None where missing; then what its sub-graphs capture), gives its output if
the node has one (``node.n_outputs == 1``), else a tuple or list of them."""


class Lowering(NamedTuple):
    """How an op type is lowered from one opset on. See ``lowers``."""

    since: int
    build: Callable[[Node], Compute]
    host: tuple[int, ...]
    lowered: bool
    pure: bool


_TABLE: dict[tuple[str, str], list[Lowering]] = {}


def lowers(
    *types: str,
    since: int = 1,
    domain: str = "",
    host: Sequence[int] = (),
    lowered: bool = True,
    pure: bool = True,
) -> Callable[[Callable[[Node], Compute]], Callable[[Node], Compute]]:
    """Register a lowering for op types of an opset version ``since`` and later, up to the next
    registered version.

    The decorated function reads attributes once and gives the function that computes; it raises
    Unsupported for what it can't do. ``host`` are positions of inputs that the computation needs as
    numbers, such as a shape: they come as numpy arrays. ``lowered=False``: computes as written in
    every precision. ``pure=False``: draws random numbers.
    """

    def register(build: Callable[[Node], Compute]) -> Callable[[Node], Compute]:
        for op_type in types:
            versions = _TABLE.setdefault((domain, op_type), [])
            if any(other.since == since for other in versions):
                raise ValueError(f"{op_type} of opset {since} is lowered twice")
            versions.append(Lowering(since, build, tuple(host), lowered, pure))
            versions.sort(key=lambda lowering: -lowering.since)
        return build

    return register


def find(domain: str, op_type: str, version: int) -> Lowering:
    """The lowering of an op type at an opset version; raises Unsupported."""
    domain = "" if domain == "ai.onnx" else domain
    for lowering in _TABLE.get((domain, op_type), ()):
        if lowering.since <= version:
            return lowering
    where = f" of domain {domain}" if domain else ""
    raise Unsupported(f"{op_type}{where} of opset {version} has no lowering to torch")


def op_types() -> list[tuple[str, str]]:
    """Domain and type of every op that has a lowering."""
    return sorted(_TABLE)


# --- what a lowering sees ----------------------------------------------------------------------

_REQUIRED = object()


class Body:
    """A sub-graph of an op, ready to run: ``body(inputs, captured) -> list of outputs``.

    ``captured`` is all that the op got beyond its own inputs, for whichever of its sub-graphs.
    ``constants`` are the tensors of its constants, which an output may be.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Any]], list[Any]],
        n_inputs: int,
        n_outputs: int,
        picks: Sequence[int],
        constants: Sequence[torch.Tensor] = (),
    ) -> None:
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.constants = tuple(constants)
        self._run, self._picks = run, tuple(picks)

    def __call__(self, inputs: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
        """Run it once."""
        return self._run([*inputs, *[captured[i] for i in self._picks]])


class Prepared(NamedTuple):
    """Constant inputs of an op that its computation gets in another form. See ``Node.once``."""

    indexes: tuple[int, ...]
    make: Callable[..., Any]


class Node:
    """An op as its lowering sees it: attributes, constant inputs, sub-graphs, and the device where
    tensors that it makes out of nothing belong."""

    def __init__(
        self,
        op: Op,
        device: torch.device,
        constants: Sequence[Constant | None],
        bodies: dict[str, Body],
    ) -> None:
        self.op, self.device = op, device
        self.type, self.version = op.type, op.version
        self.n_inputs, self.n_outputs = len(op.inputs), len(op.outputs)
        self._constants = tuple(constants)
        self._bodies = bodies
        self.prepared: list[Prepared] = []

    def has_input(self, index: int) -> bool:
        """True if that input is there."""
        return index < self.n_inputs and self.op.inputs[index] != ""

    def has_output(self, index: int) -> bool:
        """True if anybody reads that output."""
        return index < self.n_outputs and self.op.outputs[index] != ""

    def constant(self, index: int) -> np.ndarray | None:
        """The value of an input, where it is a constant, as ``host=`` gives it; else None."""
        constant = self._constants[index] if index < self.n_inputs else None
        return None if constant is None else numbers_of(constant)

    def constant_ints(self, index: int) -> tuple[int, ...] | None:
        """The value of an input that lists ints, where it is a constant; else None."""
        value = self.constant(index)
        return None if value is None else tuple(value.reshape(-1).tolist())

    def constant_dtype(self, index: int) -> torch.dtype | None:
        """The type of an input, where it is a constant; else None."""
        constant = self._constants[index] if index < self.n_inputs else None
        return None if constant is None else torch_dtype(constant.dtype)

    def once(self, make: Callable[..., Any], *indexes: int) -> bool:
        """Have constants in another form, made once, while linking: True if the inputs of
        ``indexes`` are all constants or missing. The computation then gets at the first what
        ``make`` gives for their tensors (on the op's device, in its precision; None where missing):
        a tensor or a tuple of them; and None at the others."""
        if any(self.has_input(i) and self._constants[i] is None for i in indexes):
            return False
        self.prepared.append(Prepared(indexes, make))
        return True

    def attr(self, name: str, default: Any = _REQUIRED) -> Any:
        """An attribute as Python has it (text as str); without ``default`` it has to be there."""
        value = self.op.attributes.get(name)
        if value is None:
            if default is _REQUIRED:
                raise Unsupported(f"{self.type} without its attribute {name}")
            return default
        return value

    def ints(self, name: str, default: Any = ()) -> Any:
        """An attribute that is a list of ints, as a tuple; ``default`` where it is missing."""
        value = self.op.attributes.get(name)
        return default if value is None else tuple(int(v) for v in value)

    def flag(self, name: str, default: bool = False) -> bool:
        """An attribute that is 0 or 1."""
        return bool(self.op.attributes.get(name, default))

    def tensor(self, name: str) -> torch.Tensor:
        """An attribute that is a tensor, on the op's device."""
        return to_tensor(self.attr(name)).to(self.device)

    def body(self, name: str) -> Body:
        """A sub-graph by the name of its attribute."""
        return self._bodies[name]

    def one_of(self, name: str, default: str, choices: Sequence[str]) -> str:
        """A text attribute; raises Unsupported unless it is one of ``choices``."""
        value = self.attr(name, default)
        if value not in choices:
            raise Unsupported(f"{self.type} with {name}={value}")
        return str(value)
