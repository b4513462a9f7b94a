"""Activations: what flows between the ops of a model in one reference run, kept on disk.

Blocks are timed on what they get inside the model, not on noise: data decide how often an ``If`` is
taken, which rows a ``Gather`` reads, how many numbers are denormal.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dioe.graph import Model, OpGraph, stage_io
from dioe.types import (
    Array,
    Buffer,
    ConfigError,
    Context,
    Feeds,
    InputError,
    Precisions,
    Value,
)

LIMIT_BYTES = 2**30
"""All activations that are kept together, unless told otherwise."""

_CHUNK_BYTES = 128 * 2**20
"""Activations that one run keeps alive until they are written."""

_UNKNOWN_BYTES = 2**20
"""Stands for the size of a value of unknown shape when values are dealt out to runs."""

_IN_MEMORY_BYTES = 4096  # a page: smaller ones are no files


class Activations(Mapping[str, Array]):
    """Arrays by value name; those that are mapped from files stay valid when this is closed.

    Mapped arrays are copy-on-write: what writes into one changes nothing for the next reader.
    ``missing`` names the values that were wanted and left out, each with the reason.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing captured yet; ``folder``, which is ours, goes when this is closed."""
        self.missing: dict[str, str] = {}
        self._folder = folder
        self._arrays: dict[str, Array] = {}
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def nbytes(self) -> int:
        """Size of all arrays."""
        return sum(array.nbytes for array in self._arrays.values())

    def give(self, name: str, array: Array) -> None:
        """Hold an array as it is."""
        self._arrays[name] = array

    def write(self, name: str, array: Array) -> None:
        """Hold a copy of an array: in a file, unless it is tiny. Raises OSError."""
        plain = np.ascontiguousarray(array).reshape(array.shape)
        if plain.nbytes < _IN_MEMORY_BYTES:
            self._arrays[name] = plain.copy()
            return
        file = self._folder / f"{len(self._arrays)}.npy"
        try:
            np.save(file, plain, allow_pickle=False)
        except OSError:
            file.unlink(missing_ok=True)
            raise
        # .npy knows the types of ml_dtypes by their size only
        mapped = np.load(file, mmap_mode="c", allow_pickle=False).view(np.ndarray)
        self._arrays[name] = mapped if mapped.dtype == plain.dtype else mapped.view(plain.dtype)

    def close(self) -> None:
        """Remove the files and forget the arrays. May be called again."""
        self._arrays.clear()
        self._remove()

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __enter__(self) -> Activations:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def capture(
    graph: OpGraph,
    values: Iterable[str],
    feeds: Feeds,
    context: Context,
    *,
    folder: Path | None = None,
    limit_bytes: int = LIMIT_BYTES,
) -> Activations:
    """The named values of a run of ``graph.model`` (shapes bound) on ``feeds``.

    ``context`` compiles copies of the model, graph optimisations off, that have the values as
    outputs, and runs each of them once: as many as it takes to keep at most 128 MiB in memory. The
    files lie in a folder of their own, inside ``folder`` or where temporary files go, and are
    removed with the result or at exit. In the order given, values are left out that would exceed
    ``limit_bytes``, and so are strings and sequences. Inputs and constants of the model are handed
    out as they are and don't count.

    Raises InputError for a value the model doesn't have or an input that isn't fed, ConfigError if
    the folder can't be made, and whatever the context raises, with nothing left behind.
    """
    wanted = tuple(dict.fromkeys(values))
    _check(graph, wanted, feeds)
    try:
        made = Path(tempfile.mkdtemp(prefix="dioe-activations-", dir=folder))
    except OSError as error:
        raise ConfigError(
            f"no folder for activations can be made: {error}",
            place=str(folder or tempfile.gettempdir()),
            fix="free some space, or set TMPDIR to where there is some",
        ) from error
    found = Activations(made)
    try:
        produced = []
        for name in wanted:
            if name in graph.producers:
                produced.append(name)
            elif name in graph.constants or name in feeds:
                _give(found, name, _outside(graph, name, feeds))
            else:
                found.missing[name] = "a constant that is no plain tensor"
        for names in _chunks(graph, _admitted(graph, produced, limit_bytes, found)):
            _run(graph, names, feeds, context, found, limit_bytes)
    except BaseException:
        found.close()
        raise
    return found


def _check(graph: OpGraph, wanted: Sequence[str], feeds: Feeds) -> None:
    inputs = {spec.name for spec in graph.model.inputs}
    unfed = sorted(inputs - set(feeds))
    if unfed:
        raise InputError(
            f"input {unfed[0]!r} is not fed", place=graph.model.place, fix="feed all inputs"
        )
    for name in wanted:
        if name not in inputs and name not in graph.values:
            raise InputError(
                f"the model has no value {name!r}",
                place=graph.model.place,
                fix="name values of its main graph",
            )


def _outside(graph: OpGraph, name: str, feeds: Feeds) -> Value:
    """A value that no op makes: a constant or an input."""
    return graph.constants[name].numpy() if name in graph.constants else feeds[name]


def _give(found: Activations, name: str, value: Value) -> None:
    array = _array(value)
    if array is None:
        found.missing[name] = _NOT_A_TENSOR
    else:
        found.give(name, array)


_NOT_A_TENSOR = "strings, sequences and maps are not kept"


def _array(value: Value) -> Array | None:
    """The host array of a tensor of numbers, else None."""
    if isinstance(value, Buffer):
        value.ready.wait()
        value = value.numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OSU":
        return value
    return None


def _size(graph: OpGraph, name: str) -> int | None:
    return graph.values[name].nbytes


def _admitted(
    graph: OpGraph, names: Sequence[str], limit_bytes: int, found: Activations
) -> list[str]:
    """The values that fit below the limit as far as sizes are known; the others go missing."""
    admitted, total = [], 0
    for name in names:
        spec, size = graph.inferred.specs.get(name), _size(graph, name)
        if spec is not None and spec.kind != "tensor":
            found.missing[name] = _NOT_A_TENSOR
        elif size is not None and total + size > limit_bytes:
            found.missing[name] = _too_large(size, limit_bytes)
        else:
            admitted.append(name)
            total += size or 0
    return admitted


def _too_large(size: int, limit_bytes: int) -> str:
    return f"its {size} bytes don't fit below the limit of {limit_bytes} for all activations"


def _chunks(graph: OpGraph, names: Sequence[str]) -> Iterator[list[str]]:
    """Groups of values made by one run each, early ones together so that little runs twice."""
    chunk: list[str] = []
    total = 0
    for name in sorted(names, key=lambda name: graph.index[graph.producers[name]]):
        known = _size(graph, name)
        size = _UNKNOWN_BYTES if known is None else known
        if chunk and total + size > _CHUNK_BYTES:
            yield chunk
            chunk, total = [], 0
        chunk.append(name)
        total += size
    if chunk:
        yield chunk


def _run(
    graph: OpGraph,
    names: Sequence[str],
    feeds: Feeds,
    context: Context,
    found: Activations,
    limit_bytes: int,
) -> None:
    """Run what leads to the values once, and write them."""
    written = sum(found[n].nbytes for n in found if n in graph.producers)
    executable = context.compile(_leading_to(graph, names), Precisions(), {"optimize": False})
    try:
        request = executable.request()
        request.bind({spec.name: feeds[spec.name] for spec in executable.inputs})
        request.run().wait()
        outputs = request.outputs
        for name in names:
            array = _array(outputs[name])
            if array is None:
                found.missing[name] = _NOT_A_TENSOR
            elif written + array.nbytes > limit_bytes:  # of those whose size wasn't known
                found.missing[name] = _too_large(array.nbytes, limit_bytes)
            else:
                try:
                    found.write(name, array)
                except OSError as error:
                    found.missing[name] = f"it can't be written: {error}"
                else:
                    written += array.nbytes
    finally:
        executable.close()


def _leading_to(graph: OpGraph, names: Sequence[str]) -> Model:
    """The part of the model that makes the named values, and has them as its only outputs."""
    ops: set[str] = set()
    waiting = [graph.producers[name] for name in names]
    while waiting:
        op = waiting.pop()
        if op not in ops:
            ops.add(op)
            waiting.extend(graph.ids[i] for i in graph.predecessors[graph.index[op]])
    source = graph.model.ir
    values = {value.name: value for value in source.graph.inputs}
    values |= {value.name: value for node in source.graph for value in node.outputs}
    read = {value for op in ops for value in graph.ops[op].reads}
    view = ir.GraphView(
        [values[name] for name in stage_io(graph, ops)[0]],
        [values[name] for name in names],
        nodes=[n for n in source.graph if n.name in ops or _is_read_constant(n, read)],
        initializers=[v for n, v in source.graph.initializers.items() if n in read],
        opset_imports=dict(source.graph.opset_imports),
        name=source.graph.name,
    )
    part = view.clone()
    for value in part.outputs:
        known = graph.values[value.name or ""]
        if value.type is None and known.dtype.kind != "O":
            value.type = ir.TensorType(ir.DataType.from_numpy(known.dtype))
    functions = [function.clone() for function in source.functions.values()]
    # from IR version 4 on, initializers need not be inputs as well
    return Model(ir.Model(part, ir_version=max(source.ir_version, 4), functions=functions))


def _is_read_constant(node: ir.Node, read: set[str]) -> bool:
    return node.op_type == "Constant" and not node.domain and node.outputs[0].name in read
