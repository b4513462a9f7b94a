"""The machine and the versions that figures were taken with, in one line."""

from __future__ import annotations

import importlib.metadata

from dioe.hardware import host_pool, machine


def machine_line() -> str:
    """Such as ``2 cores of AMD EPYC, a virtual machine; onnxruntime 1.31.1, openvino 2026.4.1``."""
    about = machine(host_pool())
    kind = ", a virtual machine" if about["is_virtual"] else ""
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in ("onnxruntime", "openvino")
    ]
    return f"{about['capacity']:g} cores of {about['name']}{kind}; {', '.join(versions)}"
