"""What a vendor's package says of itself: its version, and whether it is the real one."""

from __future__ import annotations

import importlib
import sys

from dioe_cambricon.worker.errors import BackendError


def distribution_version(name: str) -> str:
    """Version of an installed distribution; ``unknown`` where its metadata isn't there."""
    try:
        from importlib import metadata
    except ImportError:  # Python 3.7
        pkg_resources = importlib.import_module("pkg_resources")
        try:
            return str(pkg_resources.get_distribution(name).version)
        except pkg_resources.DistributionNotFound:
            return "unknown"
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def known_as(name: str) -> str:
    """How what this imported package computes is known: ``hardware`` unless it says otherwise.

    Fakes of a vendor's API (``contract``) and devices in software (``simulated``) announce
    themselves by an attribute of the package. There is no setting for it, so that nobody can take
    the one for the other by mistake.
    """
    word = getattr(sys.modules[name], "__dioe_known_as__", None)
    if word is None:
        return "hardware"
    if word not in ("contract", "simulated"):
        raise BackendError(f"{name} says that it is known as {word!r}")
    return str(word)
