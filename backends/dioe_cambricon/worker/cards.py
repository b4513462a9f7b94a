"""What all providers say of cards: how one is described, and which are counted how."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dioe_cambricon.worker.cndev import Cndev

KIND = "mlu"
NAME = "Cambricon MLU"


def absent(reason: str) -> dict[str, Any]:
    """The device that stands for cards that aren't there."""
    return _device(0, NAME, "", "absent", None, {}, reason)


def present(
    index: int,
    counters: Cndev | None,
    known_as: str,
    details: dict[str, Any],
    name: str = "",
    memory_bytes: int | None = None,
) -> dict[str, Any]:
    """The card of an index as the driver describes it, else as the library does."""
    uuid = None
    if counters is not None:
        name = counters.name(index) or name
        uuid = counters.uuid(index)
        memory = counters.memory(index)
        memory_bytes = memory_bytes if memory is None else memory["total_bytes"]
    return _device(index, name or NAME, uuid or "", known_as, memory_bytes, details, "")


def _device(
    index: int,
    name: str,
    uuid: str,
    known_as: str,
    memory_bytes: int | None,
    details: dict[str, Any],
    reason: str,
) -> dict[str, Any]:
    return {
        "id": f"{KIND}:{index}",
        "kind": KIND,
        "name": name,
        "state": "absent" if reason else "present",
        "reason": reason,
        # The same for all providers, so that a card is one device whoever tells of it.
        "uuid": uuid or f"cambricon-{index}",
        "known_as": known_as,
        "memory_bytes": memory_bytes,
        "shares": None,
        "details": details,
    }
