"""Per-op times out of ONNX Runtime's profile, mapped back to source ops."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from dioe.types import ModelError, OpTime, StageModel
from dioe_onnxruntime.coverage import covered_ops, token

_KERNEL = "_kernel_time"
_PRECISIONS = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
    "int4": "int4",
    "uint4": "int4",
}


class Profiler:
    """Profiling of one session: what it writes goes to a folder that ``close`` removes."""

    def __init__(self, model: StageModel, settings: ort.SessionOptions) -> None:
        self._op_ids = model.op_ids
        self._folder = tempfile.TemporaryDirectory(prefix="dioe-profile-")
        folder = Path(self._folder.name)
        self._optimised = folder / "optimised.onnx"
        settings.enable_profiling = True
        settings.profile_file_prefix = str(folder / "profile")
        settings.optimized_model_filepath = str(self._optimised)
        # The optimised model is read for its nodes only: keep its weights out of it.
        for key, value in (
            ("external_initializers_file_name", "weights.bin"),
            ("external_initializers_min_size_in_bytes", "1024"),
        ):
            settings.add_session_config_entry(f"session.optimized_model_{key}", value)
        try:
            self._proto = onnx.load_from_string(model.to_bytes())
        except ModelError:  # above 2 GiB: nodes from the file, weights found beside it
            path = model.to_path()
            self._proto = onnx.load(path, load_external_data=False)
            settings.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(path.parent)
            )
        for i, node in enumerate(self._proto.graph.node):
            node.name = token(i)
        self._times: tuple[OpTime, ...] | None = None

    def source(self) -> bytes:
        """The model with its nodes named so that fused nodes can be traced back."""
        model: bytes = self._proto.SerializeToString()
        return model

    def times(self, session: ort.InferenceSession) -> tuple[OpTime, ...]:
        """End the session's profile and read it; later calls return the same."""
        if self._times is None:
            events = json.loads(Path(session.end_profiling()).read_text())
            optimised = onnx.load(self._optimised, load_external_data=False)
            covers = covered_ops(self._proto.graph.node, optimised.graph.node)
            self._times = _op_times(events, covers, self._op_ids)
            self.close()
        return self._times

    def close(self) -> None:
        """Remove the folder. May be called again."""
        self._proto = onnx.ModelProto()
        self._folder.cleanup()


def _op_times(
    events: list[dict[str, Any]], covers: Mapping[str, tuple[int, ...]], op_ids: tuple[str, ...]
) -> tuple[OpTime, ...]:
    """Kernel times by top-level node; those within If and Loop bodies are part of their op's."""
    runs = [e for e in events if e.get("name") == "model_run"]
    # The first run allocates and packs: 403 µs for a convolution that then takes 10.
    start = runs[0]["ts"] + runs[0]["dur"] if len(runs) > 1 else 0
    totals: dict[str, list[Any]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") != "Node" or not name.endswith(_KERNEL) or event["ts"] < start:
            continue
        node = name[: -len(_KERNEL)]
        if node not in covers:
            continue
        entry = totals.setdefault(node, [event["args"], 0.0, 0])
        entry[1] += event["dur"] / 1000
        entry[2] += 1
    return tuple(
        OpTime(
            name=_readable(node, covers[node], op_ids),
            op_type=args.get("op_name", ""),
            ops=tuple(op_ids[i] for i in covers[node]),
            total_ms=total,
            count=count,
            precision=_precision(args),
        )
        for node, (args, total, count) in totals.items()
    )


def _readable(node: str, ops: tuple[int, ...], op_ids: tuple[str, ...]) -> str:
    for i in ops:
        node = node.replace(token(i), op_ids[i])
    return node


def _precision(args: Mapping[str, Any]) -> str:
    for output in args.get("output_type_shape", ()):
        for kind in output:
            if kind in _PRECISIONS:
                return _PRECISIONS[kind]
    return ""
