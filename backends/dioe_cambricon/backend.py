"""What the backends on Cambricon cards say of themselves; their workers do the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dioe.host_backend import check_resources, resolve_options, support_by_trial
from dioe.registry.worker import WorkerBackend, WorkerContext, WorkerProcess
from dioe.registry.worker.model import send_model
from dioe.registry.worker.records import OPTIONAL_STR, field
from dioe.types import (
    ABI_VERSION,
    Capabilities,
    Context,
    DeviceInfo,
    DeviceState,
    DioeError,
    KnownAs,
    Precision,
    Resolution,
    Resources,
    StageModel,
    Support,
    UnsupportedError,
)
from dioe_cambricon.build import PLACE
from dioe_cambricon.context import MagicMindContext
from dioe_cambricon.host import CambriconHost
from dioe_cambricon.options import OPTIONS, PRECISION_MODES
from dioe_cambricon.support import MAGICMIND, unholdable


class CambriconBackend(WorkerBackend):
    """What is common to all: the cards, as the worker on the vendor's Python finds them."""

    abi_version = ABI_VERSION
    simulated = False

    def __init__(self, host: CambriconHost, name: str) -> None:
        self.cambricon = host
        super().__init__(host, name)
        self._cards: Mapping[str, DeviceInfo] = {}

    @property
    def version(self) -> str:
        """Version of the vendor's library; empty where there is no card to ask about."""
        return super().version if self._cards else ""

    def probe(self) -> Sequence[DeviceInfo]:
        """The cards; one that is absent, with what to do, where there are none. Starts a worker
        only where a Python for it is named."""
        self._cards = {}
        missing = self.cambricon.missing()
        if missing:
            return [_absent(missing)]
        try:
            found = super().probe()
        except DioeError as error:
            reason = " ".join(f"{error.cause}; {error.fix}".strip("; ").split())
            return [_absent(f"the worker on {self.cambricon.python} failed: {reason}")]
        self._cards = {d.id: d for d in found if d.state is DeviceState.PRESENT}
        return found

    def card(self, device: str) -> DeviceInfo:
        """The card of that id; raises UnsupportedError."""
        if not self._cards:
            self.probe()
        if device not in self._cards:
            known = ", ".join(self._cards) or "none"
            raise UnsupportedError(
                f"no device {device!r} here", place=self.name, fix=f"cards: {known}"
            )
        return self._cards[device]

    def open(self, device: str, resources: Resources) -> Context:
        """See ``dioe.types.Backend``. The host's cores and threads don't matter to a card."""
        self.card(device)
        check_resources(resources)
        return super().open(device, resources)


class MagicMindBackend(CambriconBackend):
    """Cambricon's compiler and runtime for whole subgraphs."""

    def __init__(self, host: CambriconHost | None = None) -> None:
        super().__init__(host or CambriconHost("magicmind", PLACE), PLACE)

    def capabilities(self, device: str) -> Capabilities:
        """One precision for a whole model; open dimensions are built as such."""
        self.card(device)
        return Capabilities(
            computes=frozenset(PRECISION_MODES),
            stores=frozenset((Precision.FP32, Precision.FP16)),
        )

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``dioe_cambricon.options``; needs no card."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """What MagicMind's parser reads, the whole model first, then op by op. Nothing is built:
        that may take minutes. Values that no card holds are refused before."""
        self.card(device)
        ops = model.op_ids
        if precision not in PRECISION_MODES:
            reason = f"there is no {precision} in MagicMind"
            return Support(frozenset(), dict.fromkeys(ops, reason))
        refused = unholdable(model, MAGICMIND)
        process = self.cambricon.process()

        def whole(asked: StageModel) -> None:
            named, _segment = send_model(asked, process)  # memory that lives until the answer
            self._ask_parser(process, named)

        def single(data: bytes) -> None:
            segment = process.segment(len(data))
            segment.bytes(0, len(data))[:] = np.frombuffer(data, np.uint8)
            self._ask_parser(process, {"segment": segment.id, "nbytes": len(data)})

        found = support_by_trial(model, whole, single)
        refused = {op: refused.get(op) or found.refused.get(op, "") for op in ops}
        refused = {op: reason for op, reason in refused.items() if reason}
        return Support(frozenset(ops) - refused.keys(), refused)

    def _ask_parser(self, process: WorkerProcess, named: Mapping[str, Any]) -> None:
        limit_s = self.host.deadlines.compile_s
        answer = process.call("check", {"model": dict(named)}, limit_s=limit_s)
        refused = field(answer, "refused", OPTIONAL_STR)
        if refused:
            raise UnsupportedError(refused, place=PLACE)

    def _context(self, process: WorkerProcess, number: int, device: str) -> WorkerContext:
        name = self.card(device).name
        return MagicMindContext(process, number, device, self.host.deadlines, name)


def _absent(reason: str) -> DeviceInfo:
    return DeviceInfo(
        "mlu:0",
        "mlu",
        "Cambricon MLU",
        state=DeviceState.ABSENT,
        reason=reason,
        uuid="cambricon-0",  # the same for all backends of the plugin: one device that is absent
        known_as=KnownAs.ABSENT,
    )
