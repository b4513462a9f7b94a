"""The reference of DIOE's YAML files in Markdown, made from their JSON Schema.

``python -m dioe.hardware.reference`` writes it anew in a checkout, and the schema beside it
(``make schema``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dioe.hardware import catalogue
from dioe.hardware.json_schema import MODELS, Schema, json_schema, schema_text

_INTRODUCTION = """\
# Hardware files: reference

Every key of descriptors, pools and profiles. [hardware.md](hardware.md) shows how to write them.

This page and [`hwconfigs/schema.json`](../hwconfigs/schema.json), for editors, are made from the
models that read the files (`make schema`). Keys in **bold** are required; what isn't known is left
out. Unknown keys are errors.

A quantity is a number with its unit: sizes in `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000) or
`KiB`, `MiB`, `GiB`, `TiB` (powers of 1024), bandwidths in the same with `/s`, rates of arithmetic
in `FLOPS` or `OPS` with `k`, `M`, `G`, `T`, `P` (a multiply-add counts 2), times in `s`, `ms`,
`us`, `ns`, power in `W`, `mW`, `kW`.
"""

_TITLES = {
    "DeviceDescriptor": "Descriptor (`format: dioe-device`)",
    "PoolFile": "Pool (`format: dioe-pool`)",
    "ProfileFile": "Profile",
}


def reference_text() -> str:
    """``docs/hardware-reference.md``."""
    definitions: dict[str, Schema] = json_schema()["definitions"]
    parts = [_INTRODUCTION]
    told: set[str] = set()
    for model in MODELS:
        for name in _reachable(model.__name__, definitions):
            if name not in told:
                told.add(name)
                parts.append(_section(name, definitions))
    return "\n".join(parts)


def _reachable(name: str, definitions: dict[str, Schema]) -> list[str]:
    """The definition and those that it mentions that have keys, as they come up."""
    found = [name]
    for current in found:
        for schema in definitions[current].get("properties", {}).values():
            found += [
                other
                for other in dict.fromkeys(_references(schema))
                if other not in found and "properties" in definitions[other]
            ]
    return found


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _section(name: str, definitions: dict[str, Schema]) -> str:
    schema = definitions[name]
    level = "##" if name in _TITLES else "###"
    lines = [
        f"{level} {_TITLES.get(name, name)}", "", schema.get("description", ""), "",
        "| key | value | what |", "|---|---|---|",
    ]  # fmt: skip
    required = schema.get("required", ())
    for key in sorted(schema["properties"], key=lambda key: key not in required):
        part = schema["properties"][key]
        shown = f"**`{key}`**" if key in required else f"`{key}`"
        default = f" (`{_yaml(part['default'])}`)" if "default" in part else ""
        text = part.get("description", "").replace("\n", " ")
        lines.append(f"| {shown} | {_type(part, definitions)}{default} | {_cell(text)} |")
    return "\n".join(lines) + "\n"


def _type(schema: Schema, definitions: dict[str, Schema]) -> str:
    """What a value may be, in words and links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if "properties" in definitions[name]:
            return f"[{name}](#{name.lower()})"
        return _type(definitions[name], definitions)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" if value else "nothing" for value in schema["enum"])
    if "anyOf" in schema:
        parts = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(_type(part, definitions) for part in parts)
    if "examples" in schema:
        return f"quantity, `{schema['examples'][0]}`"
    kind: str = schema.get("type", "any value")
    if kind == "array":
        return f"list: {_type(schema['items'], definitions)}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        below = f": {_type(inner, definitions)}" if isinstance(inner, dict) else ""
        return f"mapping{below}"
    return _KINDS.get(kind, kind) + _bounds(schema)


_KINDS = {"string": "text", "boolean": "`true`, `false`", "integer": "whole number"}


def _bounds(schema: Schema) -> str:
    low, above, high = (schema.get(k) for k in ("minimum", "exclusiveMinimum", "maximum"))
    words = [
        "" if low is None else f"from {low:,}",
        "" if above is None else f"above {above:,}",
        "" if high is None else f"to {high:,}",
        "" if "pattern" not in schema else f"`{_cell(schema['pattern'])}`",
    ]
    given = " ".join(filter(None, words))
    return f", {given}" if given else ""


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def write_generated(root: Path) -> list[Path]:
    """Write the schema and the reference below a checkout's root; gives the files."""
    texts = {
        root / "hwconfigs" / "schema.json": schema_text(),
        root / "docs" / "hardware-reference.md": reference_text(),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


if __name__ == "__main__":
    write_generated(catalogue.folder().parent)
