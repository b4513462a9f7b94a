"""The published JSON Schema and the reference: current, described, and of one mind with the
models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from dioe.hardware.json_schema import json_schema, schema_text
from dioe.hardware.reference import reference_text, write_generated
from dioe.hardware.validate import shipped
from dioe.yaml_text import read_document

ROOT = Path(__file__).parents[3]
BROKEN = Path(__file__).parent / "broken"
SCHEMA = ROOT / "hwconfigs" / "schema.json"
REFERENCE = ROOT / "docs" / "hardware-reference.md"
SCHEMA_LINE = "# yaml-language-server: $schema=../schema.json"

# what a schema can't tell: what is beyond one value or one file, and what no YAML is
BEYOND = (
    "alias", "billion", "bus-", "descriptor-", "duplicate", "exponents", "fraction", "hair-",
    "half-", "include-", "infinite", "kind-against", "limit-on", "link", "mode-", "name-too",
    "nan", "negative", "nested", "no-dev", "options-", "profile-own", "several-contradictions",
    "shares", "zero",
)  # fmt: skip
UNREADABLE = (
    "another", "empty", "huge", "list-on", "no-date", "not-utf", "nul-", "number-as", "tab", "tag-",
    "too-deep", "two-", "unclosed",
)  # fmt: skip
TOLD = [
    path
    for path in sorted(BROKEN.glob("*.yaml"))
    if path.is_file()
    and (path.stem == "empty-source" or not path.stem.startswith((*BEYOND, *UNREADABLE)))
]


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def test_what_is_committed_is_current(tmp_path: Path) -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "run `make schema`"
    assert REFERENCE.read_text(encoding="utf-8") == reference_text(), "run `make schema`"
    (tmp_path / "hwconfigs").mkdir()
    (tmp_path / "docs").mkdir()
    written = write_generated(tmp_path)
    assert [path.read_bytes() for path in written] == [SCHEMA.read_bytes(), REFERENCE.read_bytes()]


@pytest.mark.parametrize("path", shipped(), ids=lambda path: str(path.stem))
def test_what_is_shipped_passes(path: Path, validator: Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(plain(path))] == []
    assert path.read_text(encoding="utf-8").startswith(SCHEMA_LINE)


@pytest.mark.parametrize("path", TOLD, ids=lambda path: str(path.stem))
def test_what_is_broken_in_itself_is_refused(path: Path, validator: Draft7Validator) -> None:
    assert list(validator.iter_errors(plain(path)))


def test_examples_of_the_docs_pass(validator: Draft7Validator) -> None:
    for path in (ROOT / "docs" / "examples").glob("*.yaml"):
        assert [error.message for error in validator.iter_errors(plain(path))] == []


def test_kinds_of_files_are_told_apart(validator: Draft7Validator) -> None:
    assert validator.is_valid({"hardware": {"type": "openvino"}})
    assert not validator.is_valid({"hardware": {"typ": "openvino"}})
    assert validator.is_valid({"devices": [{"id": "cpu"}]})  # a pool needs no header
    assert not validator.is_valid({"format": "dioe-device", "devices": []})
    assert not validator.is_valid({"format": "dioe-plan"})


def test_every_key_is_described() -> None:
    for name, definition in json_schema()["definitions"].items():
        for key, schema in definition.get("properties", {}).items():
            is_value_of_a_figure = key == "value"
            assert is_value_of_a_figure or schema.get("description"), f"{name}.{key}"
            assert "``" not in schema.get("description", "")
        assert definition.get("description") or name == "JsonValue", name


def test_links_of_the_reference_lead_somewhere() -> None:
    text = reference_text()
    for name in json_schema()["definitions"]:
        if f"](#{name.lower()})" in text:
            assert f"### {name}\n" in text


def plain(path: Path) -> Any:
    """The data of a file, as JSON has it."""
    return json.loads(json.dumps(read_document(path).data, default=str))
