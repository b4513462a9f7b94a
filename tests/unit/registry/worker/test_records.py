"""The contract's records through JSON and back; what isn't one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from dioe.registry import PluginState, PluginStatus
from dioe.registry.worker import records
from dioe.types import (
    BackendError,
    Capabilities,
    DeviceInfo,
    DeviceState,
    Effect,
    InputError,
    KnownAs,
    OpTime,
    Precision,
    Precisions,
    Resolution,
    Resources,
    Sample,
    Support,
    TensorSpec,
)

DEVICE = DeviceInfo(
    "mlu:0", "mlu", "MLU370", DeviceState.ERROR, "no driver", "u", KnownAs.CONTRACT,
    24 << 30, "cpu", {"a": 1, "b": "x", "c": True, "d": 0.5},
)  # fmt: skip
OPS = ("a", "b", "c", "d")
RECORDS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "device": (DEVICE, records.device_data, records.device),
    "plain device": (DeviceInfo("cpu", "cpu"), records.device_data, records.device),
    "status": (
        PluginStatus("n", PluginState.READY, "r", "s", "1", (DEVICE,), True),
        records.status_data,
        records.status,
    ),
    "capabilities": (
        Capabilities(
            frozenset(Precision), frozenset({Precision.BF16}), True, False, dlpack_in=True
        ),
        records.capabilities_data,
        records.capabilities,
    ),
    "resolution": (Resolution(Effect.APPROXIMATED, "k", "n"), asdict, records.resolution),
    "support": (
        Support(frozenset("ac"), {"b": "no kernel", "d": "no kernel"}),
        lambda s: records.support_data(s, OPS),
        lambda d: records.support(d, OPS),
    ),
    "precisions": (
        Precisions(Precision.BF16, {"a": Precision.FP32}),
        asdict,
        records.precisions,
    ),
    "resources": (Resources((0, 2), 2, False, 3, 1 << 40), asdict, records.resources),
    "default resources": (Resources(), asdict, records.resources),
    "spec": (
        TensorSpec("x", np.dtype(np.int64), (1, "N", None)),
        records.spec_data,
        records.spec,
    ),
    "spec of strings": (
        TensorSpec("x", np.dtype(object), None, "sequence"),
        records.spec_data,
        records.spec,
    ),
    "op time": (OpTime("n", "Conv", ("a", "b"), 1.5, 3, "bf16"), asdict, records.op_time),
    "sample": (
        Sample(2.0, "W", "cndev"),
        lambda s: {"sample": asdict(s)},
        records.sample,
    ),
}


@pytest.mark.parametrize(("record", "out", "back"), RECORDS.values(), ids=RECORDS.keys())
def test_round_trips(record: Any, out: Callable[[Any], Any], back: Callable[[Any], Any]) -> None:
    assert back(json.loads(json.dumps(out(record)))) == record


@pytest.mark.parametrize(("record", "out", "back"), RECORDS.values(), ids=RECORDS.keys())
def test_a_field_of_another_type_is_refused(
    record: Any, out: Callable[[Any], Any], back: Callable[[Any], Any]
) -> None:
    if isinstance(record, Resources):
        return  # the backend judges them, in the worker
    good = json.loads(json.dumps(out(record)))
    for name in good:
        wrong: list[Any] = [{"x": 1}, [[]], [3, "x", None, 1e300], "\u0000nonsense"]
        for junk in wrong:
            try:
                found = back(good | {name: junk})
            except BackendError:
                continue
            assert type(found) is type(record) or found is None
    others: list[Any] = [None, 7, [], {}, "x"]
    for junk in others:
        with pytest.raises(BackendError):
            back(junk)


def test_no_counter_is_no_sample() -> None:
    assert records.sample({"sample": None}) is None


@pytest.mark.parametrize("index", [-1, 4, True, "a"])
def test_ops_that_the_model_has_not(index: Any) -> None:
    with pytest.raises(BackendError):
        records.support({"supported": [index], "refused": []}, OPS)
    with pytest.raises(BackendError):
        records.support({"supported": [], "refused": [["why", [index]]]}, OPS)


def test_options_are_data() -> None:
    assert records.plain({"a": (1, [None, True])}, "p") == {"a": [1, [None, True]]}
    for value in (object(), {1: 2}, {"a": b"x"}):
        with pytest.raises(InputError, match="can't be given to a worker"):
            records.plain(value, "p")
