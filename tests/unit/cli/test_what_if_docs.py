"""docs/what-if.md: its commands run, and print what it shows; the captioning example.

Where planning has become better than the page says, ``DIOE_WRITE_DOCS=1 pytest`` on this file
writes the page's outputs and picture anew; the text around them is yours to read again.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dioe as library
from dioe.hardware import DeviceSpec, Pool, presence
from dioe.planning.validator import violations
from dioe.tuning import ModelledPlan
from dioe.types import KnownAs
from tests.unit.cli.conftest import Dioe, UseBackends

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLE = DOCS / "examples" / "captioning"
PAGE = DOCS / "what-if.md"
TEXT = PAGE.read_text(encoding="utf-8")
WRITE = bool(os.environ.get("DIOE_WRITE_DOCS"))
SHOWN = re.findall(r"```sh\n(dioe .*?)\n```\n\n```\n(.*?)```", TEXT, re.DOTALL)
"""Commands, and what they print."""


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The example's module ``captioning``, whose models are made once."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        models = importlib.import_module("models")
        made = {"encoder": models.encoder(), "decoder": models.decoder()}
        with pytest.MonkeyPatch.context() as patch:
            for name, model in made.items():
                patch.setattr(models, name, lambda model=model: model)
            yield importlib.import_module("captioning")
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in ("models", "captioning"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def files(example: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the example's models, as its script writes them."""
    folder = tmp_path_factory.mktemp("captioning")
    for name in ("encoder", "decoder"):
        (folder / f"{name}.onnx").write_bytes(getattr(example.models, name)())
    yield folder
    shutil.rmtree(folder)  # 240 MB


@pytest.fixture(autouse=True)
def elsewhere(use_backends: UseBackends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with another CPU than those of the pools, and nothing else."""
    pytest.importorskip("ortools", reason="plans without it may be others")
    use_backends()
    host = DeviceSpec("cpu", name="Example CPU", known_as=KnownAs.HARDWARE)
    monkeypatch.setattr(presence, "host_pool", lambda: Pool((host,)))
    monkeypatch.setenv("COLUMNS", "100")


def test_there_are_commands() -> None:
    assert len(SHOWN) == TEXT.count("```sh\ndioe ")
    assert len(SHOWN) >= 5


@pytest.mark.parametrize("command", [command for command, _ in SHOWN])
def test_commands_print_what_the_page_shows(
    command: str, dioe: Dioe, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    outcome = dioe(*shlex.split(command)[1:])
    printed, shown = outcome.out or outcome.err, dict(SHOWN)[command]
    check(command, printed, shown)
    if "--timeline" in command:
        picture, drawn = DOCS / "images" / "encoder.svg", files / "encoder.svg"
        if WRITE:
            shutil.copy(drawn, picture)
        assert drawn.read_text("utf-8") == picture.read_text("utf-8")


def check(command: str, printed: str, shown: str) -> None:
    """Compare without the spaces that pad tables, or write the page anew."""
    lines = [line.rstrip() for line in printed.rstrip().split("\n")]
    if WRITE:
        page = PAGE.read_text(encoding="utf-8")
        before, after = (f"```sh\n{command}\n```\n\n```\n{text}```" for text in (
            shown, "".join(f"{line}\n" for line in lines)
        ))  # fmt: skip
        PAGE.write_text(page.replace(before, after), encoding="utf-8")
    else:
        assert lines == shown.rstrip().split("\n")


# --- the example -------------------------------------------------------------------------------


def planned(example: Any, policy: str, **more: Any) -> ModelledPlan:
    plan = library.plan(
        example.captions(), hardware="captioning", policy=policy, precision="auto",
        runs={"decode": example.STEPS}, cost_ms=example.COSTS_MS, **more,
    )  # fmt: skip
    assert violations(plan.schedule.problem, plan.schedule) == ()
    return plan


def devices(plan: ModelledPlan) -> dict[str, set[str]]:
    """By node of the pipeline the devices that it is on."""
    found: dict[str, set[str]] = {}
    for block, target in plan.schedule.assignment.items():
        node = block.partition(".")[0].removesuffix(" (end)")
        found.setdefault(node, set()).add(target.partition("/")[0])
    return found


def test_for_throughput_each_node_is_where_a_person_would_put_it(example: Any) -> None:
    plan = planned(example, "throughput")
    assert devices(plan) == {
        "encode": {"npu:0"},
        "decode": {"gpu:0"},
        "tell": {"cpu"},
        "write": {"cpu"},
    }
    alone = planned(example, "throughput", devices=["gpu:0"])
    assert devices(alone)["encode"] == {"gpu:0"}
    assert plan.throughput_per_s > alone.throughput_per_s


@pytest.mark.parametrize("watts", ["", " 5"])
def test_the_script_prints_what_the_page_shows(
    watts: str, example: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DOCS.parent)
    example.main(*watts.split())
    command = f"python docs/examples/captioning/captioning.py{watts}"
    shown = re.search(rf"{re.escape(command)}\n```\n\n```\n(.*?)```", TEXT, re.DOTALL)
    assert shown is not None
    printed = capsys.readouterr().out
    check(command, printed, shown[1])
    if watts:
        assert re.findall(r"(\d+\.\d+) times as many a joule", printed)[2] in TEXT.replace(
            shown[1], ""
        )
        return
    told = TEXT.replace(shown[1], "")
    for figure in (
        re.findall(r"(\d+\.\d+) times as many a joule", printed)[1],
        *re.findall(r"(\d+) mJ", printed)[::2],
        *re.findall(r"less than (\d+\.\d+) W", printed),
    ):
        assert figure in told, "the text tells of it"
