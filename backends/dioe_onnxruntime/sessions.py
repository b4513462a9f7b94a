"""Sessions on one device of one provider, with nothing left to ONNX Runtime's fallbacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime as ort

from dioe.types import DeviceInfo, ModelError, StageModel, UnsupportedError
from dioe_onnxruntime.coverage import token
from dioe_onnxruntime.errors import compile_error
from dioe_onnxruntime.providers import Provider

FATAL_ONLY = 4
"""Log severity: errors come as exceptions, and warnings of optimisers are not for users."""

NO_FALLBACK = "session.disable_cpu_ep_fallback"
RECORD = "session.record_ep_graph_assignment_info"
_FELL_BACK = "fallback to CPU EP has been explicitly disabled"
_TOKEN = re.compile(r"<(\d+)>")


@dataclass(frozen=True, slots=True)
class Placed:
    """One device of a provider, and how ONNX Runtime is told to use it: by its OrtEpDevice, or by
    its index where ONNX Runtime lists no devices of the provider. ``float16``: it computes in that.
    """

    provider: Provider
    native: str
    info: DeviceInfo
    ep_device: Any = None
    index: int = 0
    float16: bool = True

    @property
    def host(self) -> bool:
        """True for ONNX Runtime's own CPU provider, which takes what no other does."""
        return self.native == "CPUExecutionProvider"


class Misplaced(UnsupportedError):
    """Ops that ONNX Runtime would run on the CPU instead; ``ops`` has a reason for each."""

    def __init__(self, cause: str, *, place: str = "", fix: str = "") -> None:
        super().__init__(cause, place=place, fix=fix)
        self.ops: Mapping[str, str] = {}


def host_settings() -> ort.SessionOptions:
    """Settings of a session that computes nothing on the host."""
    settings = ort.SessionOptions()
    settings.log_severity_level = FATAL_ONLY
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return settings


def make_session(
    source: bytes | str,
    settings: ort.SessionOptions,
    placed: Placed,
    options: Mapping[str, str],
    strict: bool = True,
) -> ort.InferenceSession:
    """A session on ``placed``. Unless it is the CPU or not ``strict``, every op runs there.

    Raises UnsupportedError where ops would run elsewhere or the provider can't be started, and
    what ``compile_error`` makes of anything else.
    """
    if not placed.host:
        settings.add_session_config_entry(NO_FALLBACK, "1" if strict else "0")
        settings.add_session_config_entry(RECORD, "1")
    place = placed.provider.backend
    try:
        if placed.ep_device is not None:
            settings.add_provider_for_devices([placed.ep_device], dict(options))
            session = ort.InferenceSession(source, settings, enable_fallback=0)
        else:
            options = dict(options)
            if placed.provider.device_option:
                options[placed.provider.device_option] = str(placed.index)
            chosen = [(placed.native, options)]
            session = ort.InferenceSession(source, settings, providers=chosen, enable_fallback=0)
    except Exception as error:
        if _FELL_BACK in str(error):
            raise Misplaced(
                f"ONNX Runtime would run ops on the CPU, not on {placed.info.id}", place=place
            ) from error
        raise compile_error(error, place) from error
    session.disable_fallback()
    if placed.native not in session.get_providers():
        raise UnsupportedError(
            f"ONNX Runtime could not start {placed.native}",
            place=place,
            fix=f"it needs {placed.provider.hint}" if placed.provider.hint else "",
        )
    if strict and not placed.host and elsewhere(session, placed):
        raise Misplaced(f"ONNX Runtime runs ops elsewhere than on {placed.info.id}", place=place)
    return session


def elsewhere(session: ort.InferenceSession, placed: Placed) -> list[tuple[str, str]]:
    """Name and type of each op that another provider than the device's runs."""
    return [
        (node.name, node.op_type)
        for subgraph in session.get_provider_graph_assignment_info()
        if subgraph.ep_name != placed.native
        for node in subgraph.get_nodes()
    ]


def misplaced(
    model: StageModel, settings: ort.SessionOptions, placed: Placed, options: Mapping[str, str]
) -> Misplaced:
    """The error that names the ops of ``model`` which ONNX Runtime would run on the CPU.

    Makes a session that is allowed to, of the model with its ops named by their index: an op's
    name stays in the names of what it is fused into, and those of branches have their op's.
    """
    proto, folder = proto_of(model)
    for i, node in enumerate(proto.graph.node):
        _name(node, token(i))
    if folder:
        key = "session.model_external_initializers_file_folder_path"
        settings.add_session_config_entry(key, folder)
    session = make_session(proto.SerializeToString(), settings, placed, options, strict=False)
    ops = model.op_ids
    reasons: dict[str, str] = {}
    for name, op_type in elsewhere(session, placed):
        reason = f"ONNX Runtime runs {op_type} on the CPU: {placed.native} has no kernel for it"
        found = [int(i) for i in _TOKEN.findall(name)]
        if not found:  # renamed: any op of its type may be it
            found = [i for i, n in enumerate(proto.graph.node) if n.op_type == op_type]
        reasons.update((ops[i], reason) for i in found if i < len(ops))
    if not reasons:
        reasons = dict.fromkeys(ops, "ONNX Runtime runs a part of the model on the CPU")
    reasons = {op: reasons[op] for op in ops if op in reasons}
    shown = ", ".join(repr(op) for op in list(reasons)[:8]) + (", ..." if len(reasons) > 8 else "")
    error = Misplaced(
        f"{len(reasons)} of {len(ops)} ops would run on the CPU, not on {placed.info.id}: {shown}",
        place=placed.provider.backend,
        fix="place them on another backend",
    )
    error.ops = reasons
    return error


def proto_of(model: StageModel) -> tuple[onnx.ModelProto, str]:
    """A copy of the model, and the folder of its weights where they are outside."""
    try:
        return onnx.load_from_string(model.to_bytes()), ""
    except ModelError:  # above 2 GiB
        path = model.to_path()
        return onnx.load(path, load_external_data=False), str(path.parent)


def _name(node: onnx.NodeProto, name: str) -> None:
    """Name a node, and those of its branches after it: each name may be there once only."""
    node.name = name
    inner = [n for a in node.attribute for graph in (a.g, *a.graphs) for n in graph.node]
    for i, child in enumerate(inner):
        _name(child, f"{name}.{i}")
