"""The fakes are strict: every attribute says where it was seen, and nothing else is there."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(scope="module")
def mm() -> Iterator[ModuleType]:
    """``magicmind.python.runtime`` of the fakes, gone from this process afterwards."""
    sys.path.insert(0, str(FAKES))
    try:
        yield importlib.import_module("magicmind.python.runtime")
    finally:
        sys.path.remove(str(FAKES))
        for name in [n for n in sys.modules if n.partition(".")[0] == "magicmind"]:
            del sys.modules[name]


def test_they_say_what_they_are(mm: ModuleType) -> None:
    assert sys.modules["magicmind"].__dioe_known_as__ == "contract"


def test_every_attribute_says_where_it_was_seen(mm: ModuleType) -> None:
    seen = sys.modules["magicmind._contract"].SEEN
    assert all(where.strip() for where in seen.values())
    for name in mm.__all__:
        thing = getattr(mm, name)
        if name in seen:  # an enumeration
            continue
        members = [
            member
            for member, value in vars(thing).items()
            if inspect.isfunction(value) and not member.startswith("_")
        ]
        assert f"{name}.__init__" in seen
        for member in members:
            assert f"{name}.{member}" in seen, f"{name}.{member}"


@pytest.mark.parametrize(
    "code",
    [
        "mm.TensorRT",
        "mm.Network().add_layer",
        "mm.BuilderConfig().parse_from_dict",
        "mm.Builder().build",
        "mm.Model().run",
        "mm.DataType.BF16",
        "setattr(mm.Device(), 'index', 0)",
        "setattr(mm.Model.EngineConfig(), 'device', 'MLU')",
    ],
)
def test_what_was_never_seen_raises(mm: ModuleType, code: str) -> None:
    with pytest.raises(AttributeError):
        eval(code, {"mm": mm})


@pytest.mark.parametrize(
    "text",
    [
        '{"fusion": true}',
        '{"debug_config": {"fusion_enable": "yes"}}',
        '{"precision_config": {"precision_mode": "int8"}}',
        '{"archs": ["mtp_999"]}',
    ],
)
def test_unknown_configuration_is_refused(mm: ModuleType, text: str) -> None:
    status = mm.BuilderConfig().parse_from_string(text)
    assert not status.ok()
    assert str(status)


def test_order_matters(mm: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="initialised"):
        mm.System().device_count()
    with pytest.raises(RuntimeError, match="parsed"):
        mm.Network().get_input_count()
    with pytest.raises(RuntimeError, match="empty"):
        mm.Model().get_input_names()
