"""A user's own modelled devices: descriptions in a YAML file that an environment variable names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dioe.types import ConfigError
from dioe.yaml_text import Document, known_key, read_document
from dioe_null.descriptors import DescriptionError, DeviceModel

VARIABLE = "DIOE_NULL_DEVICES"
"""Names the file; unset or empty, the default devices are there."""

FORMAT, FORMAT_VERSION = "dioe-null-devices", 1


def described_devices() -> list[DeviceModel] | None:
    """The devices of the file that the variable names, None where it names none.

    Raises ConfigError.
    """
    file = os.environ.get(VARIABLE)
    if not file:
        return None
    try:
        return read_devices(Path(file))
    except ConfigError as error:
        if error.place == file:  # the whole file: whoever set the variable knows it by that
            error.place = f"{VARIABLE}={file}"
        raise


def read_devices(path: Path) -> list[DeviceModel]:
    """The devices in a file: ``devices``, a list of mappings with ``DeviceModel``'s fields.

    Raises ConfigError with the line and column of what is wrong, and what to do about it.
    """
    document = read_document(path)
    records = _records(document)
    devices: list[DeviceModel] = []
    for index, record in enumerate(records):
        where = ("devices", index)
        if not isinstance(record, dict):
            raise _error(document, f"a device is {record!r:.60}", "write its fields below", *where)
        try:
            device = DeviceModel.from_record(record)
        except DescriptionError as error:
            raise _error(document, error.cause, error.fix, *where, *error.path) from None
        if device.id in {other.id for other in devices}:
            cause = f"a second device has the id {device.id!r}"
            raise _error(document, cause, "number them", *where, "id")
        devices.append(device)
    return devices


def _records(document: Document) -> list[Any]:
    """The items of ``devices``; everything beside it is checked."""
    data = document.data
    expected = {"format": FORMAT, "version": FORMAT_VERSION}
    known = [*expected, "devices"]
    for key in data:
        if key not in known:
            raise _error(document, f"unknown key {key!r}", known_key(key, known), key)
    for key, value in expected.items():
        found = data.get(key, value)
        if found != value or isinstance(found, bool):
            raise _error(document, f"{key} is {found!r:.60}", f"this DIOE reads {value!r}", key)
    records = data.get("devices")
    if not isinstance(records, list) or not records:
        raise _error(document, "there are no devices", "list some under 'devices:'", "devices")
    return records


def _error(document: Document, cause: str, fix: str, *path: str | int) -> ConfigError:
    return ConfigError(cause, place=document.place(path), fix=fix)
