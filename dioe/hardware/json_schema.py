"""The JSON Schema of DIOE's YAML files, for editors and other tools.

It is made from the models that read the files, their docstrings being the descriptions, so it can't
say anything else than they do. What goes beyond a schema (ids that have to exist, figures that
contradict each other) is for ``dioe validate``.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from pydantic import BaseModel, TypeAdapter

from dioe.hardware import descriptor, pool_file
from dioe.hardware.descriptor import DeviceDescriptor
from dioe.hardware.pool_file import FileLink, PoolFile
from dioe.hardware.profiles import ProfileFile
from dioe.hardware.spec import Link
from dioe.hardware.validate import NULL_FORMAT

Schema: TypeAlias = "dict[str, Any]"

MODELS: tuple[type[BaseModel], ...] = (DeviceDescriptor, PoolFile, ProfileFile)
"""What the files hold: descriptors, pools, profiles."""

DRAFT = "http://json-schema.org/draft-07/schema#"
"""What editors understand: the YAML language server knows this draft best."""

_HEADER = "format"


def json_schema() -> Schema:
    """The schema of all three kinds of files, told apart by ``format`` or by ``hardware``."""
    definitions: Schema = {}
    for model in MODELS:
        schema = model.model_json_schema(ref_template="#/definitions/{model}")
        definitions |= schema.pop("$defs", {})
        definitions[model.__name__] = schema
    _inherit_descriptions(definitions[FileLink.__name__], Link)
    profile: Schema = {"required": ["hardware"]}
    headless: Schema = {"not": {"anyOf": [{"required": [_HEADER]}, profile]}}
    return {
        "$schema": DRAFT,
        "title": "DIOE's descriptions of hardware",
        "description": "Devices, pools of devices, and profiles; `dioe validate` checks the rest.",
        "type": "object",
        "properties": {
            _HEADER: {
                "description": "What sort of file this is; a profile has none.",
                "enum": [descriptor.FORMAT, pool_file.FORMAT, NULL_FORMAT],
            }
        },
        "allOf": [
            _where(_is(descriptor.FORMAT), DeviceDescriptor),
            _where({"anyOf": [_is(pool_file.FORMAT), headless]}, PoolFile),
            _where({"allOf": [profile, {"not": {"required": [_HEADER]}}]}, ProfileFile),
        ],
        "definitions": {name: _readable(definitions[name]) for name in sorted(definitions)},
    }


def schema_text() -> str:
    """``hwconfigs/schema.json``."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _inherit_descriptions(schema: Schema, base: type) -> None:
    """A data class's docstrings of attributes, which pydantic reads of the class itself alone."""
    inherited = TypeAdapter(base).json_schema()["properties"]
    for name, part in schema["properties"].items():
        if name in inherited:
            part.setdefault("description", inherited[name]["description"])


def _is(format_name: str) -> Schema:
    return {"properties": {_HEADER: {"const": format_name}}, "required": [_HEADER]}


def _where(condition: Schema, model: type[BaseModel]) -> Schema:
    return {"if": condition, "then": {"$ref": f"#/definitions/{model.__name__}"}}


def _readable(schema: Schema) -> Schema:
    """A definition as people want to see it: no titles that repeat the keys, no defaults that say
    nothing, descriptions in one paragraph a line."""
    readable = dict(schema)
    if "description" in readable:
        readable["description"] = _plain(readable["description"])
    if "properties" in readable:
        properties: Schema = readable["properties"]
        readable["properties"] = {name: _property(part) for name, part in properties.items()}
    return readable


def _property(schema: Schema) -> Schema:
    said = isinstance(schema.get("default"), str | int | float) and schema["default"] != ""
    dropped = {"title"} if said and "const" not in schema else {"title", "default"}
    return {key: value for key, value in _readable(schema).items() if key not in dropped}


def _plain(text: str) -> str:
    """A docstring without reStructuredText's marks."""
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n\n".join(paragraphs).replace("``", "`")
