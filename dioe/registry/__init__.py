"""Finding and loading backend plugins, safely, and merging the devices they see."""

from dioe.registry.devices import Placement, merge_devices
from dioe.registry.discovery import PluginState, PluginStatus, Registry

__all__ = ["Placement", "PluginState", "PluginStatus", "Registry", "merge_devices"]
