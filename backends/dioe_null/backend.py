"""Modelled devices as a backend: what they take, and in which precisions."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dioe.host_backend import OptionRule, fixed, is_bool, resolve_options, resource_rules
from dioe.types import (
    ABI_VERSION,
    Capabilities,
    ConfigError,
    Context,
    DeviceInfo,
    Effect,
    KnownAs,
    Precision,
    Resolution,
    Resources,
    StageModel,
    Support,
    UnsupportedError,
)
from dioe_null.clock import Clock, RealClock
from dioe_null.descriptors import GPU, NPU, PLACE, DeviceModel

if TYPE_CHECKING:
    from dioe_null.device import Device

VERSION = "1"
"""Of the way times are modelled; a new one where the same description gives other times."""

_NOTHING_RUNS = "nothing is executed"


OPTIONS = {
    "optimize": OptionRule(
        is_bool, "true or false", fixed(Effect.APPLIED, note="there are no optimisations")
    ),
    "profile": OptionRule(is_bool, "true or false", fixed(Effect.APPLIED)),
    "kernel_fusion": OptionRule(
        lambda _: True, "anything", fixed(Effect.IGNORED, note="every op is one kernel")
    ),
    "tiling_strategy": OptionRule(
        lambda _: True, "anything", fixed(Effect.IGNORED, note=_NOTHING_RUNS)
    ),
    **resource_rules(
        precision=fixed(Effect.APPLIED),
        threads=fixed(Effect.IGNORED, note=_NOTHING_RUNS),
        streams=fixed(Effect.IGNORED, note="a device has one lane"),
        spin=fixed(Effect.IGNORED, note=_NOTHING_RUNS),
        memory_limit_bytes=fixed(Effect.APPLIED),
    ),
}


class NullBackend:
    """Devices that are descriptions: zeros of the right shapes, after the time that is modelled.

    Give it other descriptions than those of an NPU and a GPU, or a ``VirtualClock`` for tests that
    don't want to wait. Raises ConfigError if two devices have one id, there is none, or what is
    given are no descriptions, or no clock.
    """

    name = "null"
    abi_version = ABI_VERSION
    simulated = True

    def __init__(
        self, devices: Sequence[DeviceModel] = (NPU, GPU), clock: Clock | None = None
    ) -> None:
        _check_given(devices, clock)
        self.clock = clock or RealClock()
        self._models = {model.id: model for model in devices}
        if len(self._models) != len(devices) or not devices:
            raise ConfigError("devices need ids of their own", place=PLACE, fix="number them")
        self._devices: dict[str, Device] = {}
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Version of the modelling, and a digest of the descriptions: together they make times."""
        described = repr(sorted(map(repr, self._models.values())))
        return f"{VERSION}+{hashlib.sha256(described.encode()).hexdigest()[:8]}"

    @classmethod
    def from_records(
        cls, records: Sequence[Mapping[str, Any]], clock: Clock | None = None
    ) -> NullBackend:
        """A backend of devices described by plain data (``DeviceModel.from_record``).

        Raises ConfigError.
        """
        listed = isinstance(records, Sequence) and not isinstance(records, str)
        if not listed or not all(isinstance(record, Mapping) for record in records):
            raise ConfigError(
                f"{records!r:.60} is no list of descriptions",
                place=PLACE,
                fix="give a list of mappings with DeviceModel's fields: [{'id': 'npu:0', …}]",
            )
        return cls([DeviceModel.from_record(record) for record in records], clock)

    def probe(self) -> Sequence[DeviceInfo]:
        """Every device described: present, and known as modelled."""
        return [
            DeviceInfo(
                id=model.id,
                kind=model.kind,
                name=model.name,
                uuid=model.uuid or f"modelled-{model.id}",
                known_as=KnownAs.MODELLED,
                memory_bytes=model.memory_bytes,
                details={
                    "link_bandwidth_gbps": model.link.bandwidth_gbps,
                    "link_latency_us": model.link.latency_us,
                    "memory_gbps": model.memory_gbps,
                    **{f"peak_tflops_{p}": peak for p, peak in model.peak_tflops.items()},
                    "source": model.source,
                },
            )
            for model in self._models.values()
        ]

    def capabilities(self, device: str) -> Capabilities:
        """The precisions that have a peak, mixed as one likes; runs are asynchronous."""
        model = self._model(device)
        precisions = frozenset(model.peak_tflops)
        return Capabilities(
            computes=precisions,
            stores=precisions,
            mixes_precisions=True,
            dynamic_shapes=model.dynamic_shapes,
            asynchronous=True,
        )

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Resolution]:
        """See ``OPTIONS``."""
        return resolve_options(OPTIONS, options)

    def query(self, model: StageModel, device: str, precision: Precision) -> Support:
        """All standard ops on tensors of numbers; none with a body (If, Loop, Scan)."""
        from dioe_null.support import refusals

        described = self._model(device)
        if precision not in described.peak_tflops:
            reason = f"{described.id} has no {precision}"
            return Support(frozenset(), dict.fromkeys(model.op_ids, reason))
        refused = refusals(model, dynamic_shapes=described.dynamic_shapes)
        return Support(frozenset(model.op_ids) - refused.keys(), refused)

    def open(self, device: str, resources: Resources) -> Context:
        """A context; contexts on one device share its lanes and its memory."""
        from dioe_null.context import NullContext
        from dioe_null.device import Device

        model = self._model(device)
        with self._lock:
            if model.id not in self._devices:
                self._devices[model.id] = Device.of(model, self.clock)
            opened = self._devices[model.id]
        return NullContext(opened, resources)

    def _model(self, device: str) -> DeviceModel:
        try:
            return self._models[device]
        except KeyError:
            raise UnsupportedError(
                f"no device {device!r} here",
                place=PLACE,
                fix=f"its devices are: {', '.join(self._models)}",
            ) from None


def _check_given(devices: object, clock: object) -> None:
    """Raise ConfigError for what isn't a sequence of descriptions, or no clock."""
    listed = isinstance(devices, Sequence) and all(isinstance(d, DeviceModel) for d in devices)
    if not listed:
        raise ConfigError(
            f"{devices!r:.60} is no list of descriptions",
            place=PLACE,
            fix="give a list of DeviceModel, or plain data by NullBackend.from_records",
        )
    if clock is not None and not (hasattr(clock, "now_ms") and hasattr(clock, "sleep_until")):
        raise ConfigError(
            f"{clock!r:.60} is no clock", place=PLACE, fix="leave it out, or give a VirtualClock()"
        )
