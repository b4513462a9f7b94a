"""What the standards of links allow, by the names that people give them."""

from __future__ import annotations

import re

PCIE_GT_PER_S = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0}
"""Transfers of a lane by generation, 10⁹ a second, one bit each (PCI-SIG's base specifications)."""

PCIE_ENCODING = {1: 8 / 10, 2: 8 / 10, 3: 128 / 130, 4: 128 / 130, 5: 128 / 130, 6: 1.0}
"""Share of the bits that carry bytes: 8b/10b, then 128b/130b; from 6.0 on 1b/1b in flits."""

PCIE_LANES = 16
"""The widest slot; that of a name without a width."""

_PCIE = re.compile(
    r"\bpci[- ]?e(?:xpress)?\s*(?:gen\.?\s*)?([1-6])(?:\.\d)?(?![\d.])\s*(?:[x×]\s*(\d{1,2})\b)?",
    re.IGNORECASE,
)


def pcie_bandwidth(generation: int, lanes: int) -> float:
    """Bytes a second in one direction: GT/s × lanes × encoding ÷ 8. PCIe 4.0 x16: 31.5 GB/s."""
    return PCIE_GT_PER_S[generation] * 1e9 * lanes * PCIE_ENCODING[generation] / 8


def named_bandwidth(name: str) -> tuple[str, float] | None:
    """The standard that a name speaks of, and its bytes a second in one direction; None for other
    names. ``PCIe 4.0 x16``, ``PCIe Gen4 x8`` and ``PCIe5`` are known."""
    match = _PCIE.search(name)
    if match is None:
        return None
    generation, lanes = int(match[1]), int(match[2] or PCIE_LANES)
    return f"PCIe {generation}.0 x{lanes}", pcie_bandwidth(generation, lanes)
