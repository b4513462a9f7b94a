"""Finding and loading backend plugins, safely, and merging the devices they see."""

from dioe.registry.devices import Placement, merge_devices
from dioe.registry.discovery import Registry
from dioe.registry.status import PluginState, PluginStatus

__all__ = ["Placement", "PluginState", "PluginStatus", "Registry", "merge_devices"]
