"""Memory that client and worker share. The client makes all of it, without a name anywhere."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any, Self

import numpy as np

from dioe.types import Array, OutOfMemory

ALIGNMENT_BYTES = 64
"""Where tensors begin in shared memory: a cache line, and the widest vector register."""


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up so that another tensor may follow."""
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def host_limit_bytes() -> int:
    """Half of the host's memory: more than that no answer of a worker may ask for."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class Segment(mmap.mmap):
    """One piece of shared memory; it lives as long as this object or any view of it."""

    id: int
    address: int  # where it begins in this process

    @classmethod
    def from_descriptor(cls, identity: int, descriptor: int, nbytes: int) -> Self:
        """Map what the descriptor names."""
        segment = cls(descriptor, nbytes)
        segment.id = identity
        segment.address = np.frombuffer(segment, np.uint8).__array_interface__["data"][0]
        return segment

    def bytes(self, offset: int = 0, nbytes: int | None = None) -> Array:
        """Bytes of it as an array of uint8, which keeps the segment alive."""
        count = len(self) - offset if nbytes is None else nbytes
        return np.frombuffer(self, np.uint8, count, offset)

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A C-contiguous array in it."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if nbytes == 0:  # may begin where the segment ends
            return np.empty(shape, dtype)
        return self.bytes(offset, nbytes).view(dtype).reshape(shape)


def make_segment(identity: int, nbytes: int) -> tuple[Segment, int]:
    """A new segment of zeros and a descriptor of it, which the caller closes.

    On Linux it is sealed: no process that gets the descriptor can change its size, so that reading
    it never fails. Raises OutOfMemory.
    """
    size = max(nbytes, mmap.PAGESIZE)
    try:
        descriptor = _open_nameless()
        try:
            os.ftruncate(descriptor, size)
            if hasattr(os, "memfd_create"):
                import fcntl  # no module of Windows, where this one may be imported

                seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            return Segment.from_descriptor(identity, descriptor, size), descriptor
        except BaseException:
            os.close(descriptor)
            raise
    except (OSError, OverflowError, ValueError) as error:
        raise OutOfMemory(f"no {size} bytes of shared memory: {error}") from error


def _open_nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dioe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    descriptor, path = tempfile.mkstemp(prefix="dioe-")
    os.unlink(path)
    return descriptor
