"""Limits by flags: what they turn into, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dioe.cli.limit_options import parse_limits
from dioe.hardware.limits import Limits
from dioe.types import InputError, Precision
from tests.toys.backend import ToyBackend
from tests.unit.cli.conftest import QUICK, Dioe, UseBackends, is_told

BF16, INT8 = Precision.BF16, Precision.INT8
TOY = ("--devices", "cpu/toy")


def test_what_they_turn_into() -> None:
    limits = parse_limits(
        ["gpu:0=8GiB", " cpu = 1.5 GB "], ["cpu=bf16,int8", "int8", "*=int4", "cpu=fp16"], 2, "60W"
    )
    assert limits == Limits(
        {"gpu:0": 8 * 2**30, "cpu": 1_500_000_000},
        {
            "cpu": frozenset({BF16, INT8, Precision.FP16}),
            "*": frozenset({INT8, Precision.INT4}),
        },
        2,
        60.0,
    )
    assert not parse_limits()
    assert not parse_limits([], [], None, None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"memory": ["8GiB"]}, "'8GiB' names no device"),
        ({"memory": ["=8GiB"]}, "names no device"),
        ({"memory": ["cpu=8"]}, "'8' has no unit"),
        ({"memory": ["cpu=8 Gb"]}, "those are bits"),
        ({"memory": ["cpu=0 B"]}, "leaves nothing"),
        ({"memory": ["cpu=1GiB", "cpu=2GiB"]}, "given twice"),
        ({"forbidden": ["cpu=fp12"]}, "'fp12' is no precision; did you mean"),
        ({"forbidden": ["=int8"]}, "names no device"),
        ({"forbidden": ["cpu="]}, "'' is no precision"),
        ({"max_stages": 0}, "0 stages"),
        ({"power": "60"}, "'60' has no unit"),
        ({"power": "0W"}, "above 0"),
        ({"power": "lots"}, "write a number and a unit"),
    ],
)
def test_what_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parse_limits(**given)
    assert caught.value.place.startswith("--")
    assert caught.value.fix


@pytest.mark.parametrize("command", ["plan", "bench", "run", "profile"])
def test_every_command_takes_them(
    dioe: Dioe, use_backends: UseBackends, model: Path, x: Path, command: str
) -> None:
    use_backends(ToyBackend())
    shown = dioe(command, model, *TOY, "--input", f"x={x}", "--memory-limit", "cpu:3=1GiB")
    is_told(shown, 11, "no device 'cpu:3'", "did you mean 'cpu'")
    is_told(dioe(command, model, "--forbid", "cpu=fp12"), 11, "--forbid", "fp12")
    is_told(dioe(command, model, "--power-cap", "60"), 11, "--power-cap", "unit")


def test_plans_say_what_limits_decided(dioe: Dioe, use_backends: UseBackends, model: Path) -> None:
    use_backends(ToyBackend(precisions=(Precision.FP32, BF16)))
    limits = ("--forbid", "bf16", "--max-stages", 1, "--memory-limit", "cpu=1GiB")
    shown = dioe("plan", model, *TOY, "--precision", "auto", "--explain", *limits, *QUICK)
    assert shown.code == 0, shown.err
    text = " ".join(shown.out.split())
    assert "forbidden by limits: no bf16 on cpu" in text
    assert "limits: at most 1 GiB of cpu's memory; no bf16 anywhere; at most 1 stage" in text
    shown = dioe("plan", model, *TOY, "--json", *limits, *QUICK)
    (stage,) = shown.json["stages"]
    assert stage["resources"]["memory_limit_bytes"] == 2**30
    is_told(dioe("plan", model, *TOY, "--forbid", "fp32", *QUICK), 12, "no fp32", "Allow more")
    is_told(dioe("plan", model, *TOY, "--memory-limit", "cpu=64B", *QUICK), 16, "cpu may use")


def test_bench_tells_its_limits(
    dioe: Dioe, use_backends: UseBackends, model: Path, x: Path
) -> None:
    use_backends(ToyBackend())
    shown = dioe(
        "bench", model, *TOY, "--input", f"x={x}", "--tuning-budget", "0.2", "--time", "0.2",
        "--max-stages", 1, "--forbid", "cpu=int8,bf16", "--json",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    expected = {"forbid": {"cpu": ["bf16", "int8"]}, "max_stages": 1}
    assert shown.json["settings"]["limits"] == expected


@pytest.mark.parametrize(
    "option",
    [
        ("--memory-limit", "cpu=1GiB"),
        ("--forbid", "int8"),
        ("--max-stages", "1"),
        ("--power-cap", "60W"),
    ],
)
def test_refused_beside_a_plan_made_before(
    dioe: Dioe, model: Path, plan: Path, option: tuple[str, str]
) -> None:
    is_told(dioe("plan", model, "--from", plan, *option), 11, option[0], "made before")
    is_told(dioe("run", model, "--plan", plan, *option), 11, option[0], "made before")
