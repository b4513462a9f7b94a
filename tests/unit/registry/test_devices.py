"""Merging what backends report: ids of its own, one device for one uuid."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dioe.registry import merge_devices
from dioe.types import DeviceInfo, DeviceState, KnownAs

PRESENT, ABSENT, ERROR = DeviceState

Report = tuple[str, DeviceInfo]


@st.composite
def reports(draw: st.DrawFn) -> list[Report]:
    """Some backends, each with its own ids; uuids (or none) from a small set."""
    found: list[Report] = []
    for backend in draw(st.lists(st.sampled_from("abc"), unique=True)):
        for index in range(draw(st.integers(0, 4))):
            kind = draw(st.sampled_from(["cpu", "gpu", "npu"]))
            info = DeviceInfo(
                id=f"{kind}:{index}",
                kind=kind,
                name=f"{backend}'s {index}",
                state=draw(st.sampled_from(DeviceState)),
                uuid=draw(st.sampled_from(["", "", "u0", "u1", "u2", "a"])),
            )
            found.append((backend, info))
    return found


def key(report: Report) -> tuple[str, ...]:
    backend, info = report
    return (info.kind, info.uuid) if info.uuid else (backend, info.id, "")


@given(reports())
def test_merging(found: list[Report]) -> None:
    placements = merge_devices(found)
    assert len(placements) == len({key(report) for report in found})
    ids = [p.device.id for p in placements]
    assert len(set(ids)) == len(ids)
    states = [p.device.state is PRESENT for p in placements]
    assert states == sorted(states, reverse=True)
    for placement in placements:
        device = placement.device
        # a device is present, and has backends, just if a backend reports it so
        assert bool(placement.backends) == (device.state is PRESENT)
        for backend, local_id in placement.backends.items():
            mine = [i for b, i in found if b == backend and i.id == local_id]
            assert [(i.kind, i.state, i.uuid) for i in mine] == [
                (device.kind, PRESENT, device.uuid)
            ]
    for kind in ("cpu", "gpu", "npu"):
        first = "cpu" if kind == "cpu" else f"{kind}:0"
        mine_ids = [p.device.id for p in placements if p.device.kind == kind]
        rest = [f"{kind}:{i}" for i in range(1, len(mine_ids))]
        assert mine_ids == ([first, *rest] if mine_ids else [])


@given(reports())
def test_absent_devices_change_nothing_for_the_others(found: list[Report]) -> None:
    present = [report for report in found if report[1].state is PRESENT]
    alone = merge_devices(present)
    assert merge_devices(found)[: len(alone)] == alone


@given(reports())
def test_every_present_report_has_its_place(found: list[Report]) -> None:
    placements = merge_devices(found)
    for backend, info in found:
        if info.state is PRESENT:
            homes = [p for p in placements if p.device.kind == info.kind and backend in p.backends]
            assert any(
                p.device.uuid == info.uuid if info.uuid else p.backends[backend] == info.id
                for p in homes
            )


def test_two_backends_on_one_device() -> None:
    cpu = DeviceInfo("cpu", "cpu", "as a sees it", uuid="host")
    gpu = DeviceInfo("gpu:0", "gpu", uuid="0000:01:00.0")
    other = DeviceInfo("gpu:0", "gpu", uuid="0000:02:00.0")
    placements = merge_devices(
        [
            ("a", cpu),
            ("a", gpu),
            ("b", replace(cpu, id="CPU", name="as b sees it")),
            ("b", other),
            ("b", replace(gpu, id="gpu:1")),
        ]
    )
    assert [(p.device.id, p.backends) for p in placements] == [
        ("cpu", {"a": "cpu", "b": "CPU"}),
        ("gpu:0", {"a": "gpu:0", "b": "gpu:1"}),
        ("gpu:1", {"b": "gpu:0"}),
    ]
    assert placements[0].device.name == "as a sees it"


def test_a_backend_that_lacks_a_device_others_have_does_not_hide_it() -> None:
    gone = DeviceInfo("gpu:0", "gpu", "gone", ABSENT, "no driver", uuid="u")
    broken = replace(gone, state=ERROR, reason="driver fails")
    here = DeviceInfo("gpu:0", "gpu", "here", uuid="u")
    (placement,) = merge_devices([("a", gone), ("b", here), ("c", broken)])
    assert placement.device == here
    assert placement.backends == {"b": "gpu:0"}
    (placement,) = merge_devices([("a", gone), ("c", broken)])
    assert (placement.device, placement.backends) == (gone, {})


@given(reports())
def test_modelled_devices_take_no_id_of_one_that_computes(found: list[Report]) -> None:
    modelled = [
        ("0", DeviceInfo(f"{kind}:0", kind, uuid=f"m{kind}", known_as=KnownAs.MODELLED))
        for kind in ("gpu", "npu")
    ]
    computing = [report for report in found if report[1].state is PRESENT]
    before = merge_devices(computing)
    after = merge_devices([*modelled, *computing])
    assert after[: len(before)] == before
    assert {p.device.known_as for p in after[len(before) :]} == {KnownAs.MODELLED}


def test_devices_without_a_uuid_are_never_merged() -> None:
    gpu = DeviceInfo("gpu:0", "gpu")
    placements = merge_devices([("a", gpu), ("b", gpu)])
    assert [(p.device.id, p.backends) for p in placements] == [
        ("gpu:0", {"a": "gpu:0"}),
        ("gpu:1", {"b": "gpu:0"}),
    ]
    # not even where a uuid looks like the name of a backend
    cpu = DeviceInfo("x", "cpu")
    assert len(merge_devices([("cpu", cpu), ("b", replace(cpu, uuid="x"))])) == 2


def test_what_a_device_shares_is_named_as_the_device_is_named_here() -> None:
    placements = merge_devices(
        [
            ("a", DeviceInfo("gpu:0", "gpu", uuid="u0")),
            ("b", DeviceInfo("gpu:0", "gpu", uuid="u1")),
            ("b", DeviceInfo("npu:0", "npu", shares="gpu:0")),
            ("b", DeviceInfo("npu:1", "npu", shares="cpu")),  # b itself reports no cpu
        ]
    )
    assert [(p.device.id, p.device.shares) for p in placements] == [
        ("gpu:0", None),
        ("gpu:1", None),
        ("npu:0", "gpu:1"),
        ("npu:1", "cpu"),
    ]
