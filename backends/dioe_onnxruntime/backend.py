"""What one execution provider of ONNX Runtime offers, and which ops of a model it takes."""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dioe.host_backend import check_host, resolve_options, support_by_trial
from dioe.types import (
    ABI_VERSION,
    Capabilities,
    Context,
    DeviceInfo,
    Precision,
    Resolution,
    Resources,
    StageModel,
    Support,
    UnsupportedError,
)
from dioe_onnxruntime.devices import absent, find
from dioe_onnxruntime.options import rules
from dioe_onnxruntime.providers import CPU, Provider

if TYPE_CHECKING:
    from dioe_onnxruntime.sessions import Placed


class OnnxRuntimeBackend:
    """One execution provider, the CPU's unless another is given."""

    abi_version = ABI_VERSION
    simulated = False

    def __init__(self, provider: Provider = CPU) -> None:
        self.provider = provider
        self.name = provider.backend
        self._lock = threading.Lock()
        self._found: list[Placed] = []

    @property
    def version(self) -> str:
        """Version of ONNX Runtime, and of a plugin's package; empty where it isn't installed."""
        version = _onnxruntime_version()
        if not version or not self.provider.module:
            return version
        try:
            plugin = importlib.metadata.version(self.provider.module.replace("_", "-"))
        except importlib.metadata.PackageNotFoundError:
            return version
        return f"{version}+{self.provider.name}.{plugin}"

    def probe(self) -> Sequence[DeviceInfo]:
        """The provider's devices; one that is absent, with the reason, where there is none.

        What was found stays found; while there is nothing, every call looks again.
        """
        try:
            return [placed.info for placed in self._devices()]
        except UnsupportedError as error:
            return [absent(self.provider, error.cause)]

    def capabilities(self, device: str) -> Capabilities:
        """fp32, as written, and what the provider lowers it to. On the CPU worker threads keep to
        their cores; the caller's own thread is the first of them and stays where its caller put
        it."""
        if self.provider is CPU:
            check_host(device, self.name)
            return Capabilities(keeps_to_cores=True)
        self._placed(device)
        return Capabilities(
            computes=frozenset(self.provider.precisions),
            stores=frozenset(self.provider.precisions),
            asynchronous=self.provider.asynchronous,
        )

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``dioe_onnxruntime.options``."""
        return resolve_options(rules(self.provider), options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """Found by making sessions, with the optimisations that ``compile`` uses: a few models
        load without them only. Ops that would run on the CPU instead are refused, and so are those
        that ``dioe_onnxruntime.limits`` knows to fail in the run."""
        placed = self._placed(device)
        if precision not in self.provider.precisions:
            reason = f"{self.provider.title} computes as written (fp32), not {precision}"
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        from dioe_onnxruntime.context import OnnxRuntimeContext
        from dioe_onnxruntime.limits import refusals
        from dioe_onnxruntime.sessions import Misplaced

        context = OnnxRuntimeContext(placed, Resources(threads=1), device)
        refused: Mapping[str, str] = {}

        def whole(stage: StageModel) -> None:
            nonlocal refused
            try:
                context.try_model(stage, precision)
            except Misplaced as error:
                refused = error.ops

        try:
            answer = support_by_trial(
                model, whole, lambda single: context.try_bytes(single, precision)
            )
        finally:
            context.close()
        refused = {**refused, **refusals(model, placed)}
        if not refused:
            return answer
        return Support(answer.supported - refused.keys(), {**answer.refused, **refused})

    def open(self, device: str, resources: Resources) -> Context:
        """A context whose sessions use ``resources``; raises UnsupportedError with the reason
        where there is no such device."""
        placed = self._placed(device)
        from dioe_onnxruntime.context import OnnxRuntimeContext

        return OnnxRuntimeContext(placed, resources, device)

    def _devices(self) -> list[Placed]:
        with self._lock:
            if not self._found:
                self._found = find(self.provider)
            return self._found

    def _placed(self, device: str) -> Placed:
        if self.provider.kind == "cpu":
            check_host(device, self.name)
            device = "cpu"
        try:
            found = self._devices()
        except UnsupportedError as error:
            raise UnsupportedError(error.cause, place=self.name) from error
        for placed in found:
            if placed.info.id == device:
                return placed
        known = ", ".join(placed.info.id for placed in found)
        raise UnsupportedError(f"no device {device!r} here", place=self.name, fix=f"use {known}")


def _onnxruntime_version() -> str:
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        pass  # another distribution of it (onnxruntime-gpu) knows its version itself
    try:
        import onnxruntime
    except ImportError:
        return ""
    return str(onnxruntime.__version__)
