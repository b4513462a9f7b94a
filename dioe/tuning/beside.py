"""Settings: targets with the resources that they have beside other executables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dioe.graph import Block
from dioe.hardware import DeviceSpec, Pool
from dioe.planning import on_threads
from dioe.tuning.targets import Candidate
from dioe.types import Resources, Target


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A target with the resources it has beside other executables: its threads don't spin.

    Told apart by identity.
    """

    candidate: Candidate
    resources: Resources
    device: DeviceSpec | None = None
    """The device in its pool, with its figures; None where the pool doesn't name it."""

    @property
    def target(self) -> Target:
        """The candidate's."""
        return self.candidate.target

    @property
    def name(self) -> str:
        """The target, and the number of threads where it isn't the candidate's own."""
        if self.resources.threads == self.candidate.resources.threads:
            return str(self.target)
        return on_threads(self.target, self.resources.threads)

    def takes(self, block: Block) -> bool:
        """Whether the backend says that it can run the block."""
        return self.candidate.support.refused.keys().isdisjoint(block.ops)


def settings_beside(
    candidates: Sequence[Candidate], pool: Pool, *, small_pieces: bool = True
) -> list[Setting]:
    """How the candidates may run beside each other: on all their threads, and on one.

    Idle threads that spin steal cores from what runs next; and work in small pieces, such as a
    recurrent layer's steps, is often faster on one thread than on several that sleep in between.
    Backends that compile for long are left out: each part would be compiled several times.
    """
    devices = {device.id: device for device in pool.devices}
    found = []
    for candidate in candidates:
        if candidate.held_back or candidate.compiles_long or not candidate.support.supported:
            continue
        own = replace(candidate.resources, spin=False)
        device = devices.get(candidate.target.device)
        found.append(Setting(candidate, own, device))
        capacity = 1.0 if device is None else device.capacity or 1.0
        if capacity > 1 and own.threads != 1 and small_pieces:
            found.append(Setting(candidate, replace(own, threads=1), device))
    return found
