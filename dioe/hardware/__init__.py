"""What machine this is, and what machines a pool file describes.

``discover_host`` looks at the machine: what this process may use of its CPU and memory, not what
is built in. Pools are written to YAML and read back, strictly, with the place of every error; so
are profiles, which say what is wanted of one backend.
"""

from dioe.hardware.host import discover_host, host_pool, machine, versions, with_devices
from dioe.hardware.pools import Hardware, load_pool, pool_from, save_pool
from dioe.hardware.profiles import HardwareProfile, load_profile, resolve_profile
from dioe.hardware.spec import (
    Cache,
    DeviceSpec,
    Link,
    NumaNode,
    Pool,
    fingerprint,
    resources_for,
)

__all__ = [
    "Cache",
    "DeviceSpec",
    "Hardware",
    "HardwareProfile",
    "Link",
    "NumaNode",
    "Pool",
    "discover_host",
    "fingerprint",
    "host_pool",
    "load_pool",
    "load_profile",
    "machine",
    "pool_from",
    "resolve_profile",
    "resources_for",
    "save_pool",
    "versions",
    "with_devices",
]
