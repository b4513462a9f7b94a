"""docs/hardware.md: its commands run, and print what it shows."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from dioe.cli.app import run
from dioe.hardware import lint, lint_pool
from dioe.hardware.standards import PCIE_ENCODING, PCIE_GT_PER_S, pcie_bandwidth

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "hardware.md").read_text(encoding="utf-8")
CHEAP = ("dioe validate", "dioe predict", "dioe devices")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith(CHEAP)
]
MODEL = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1, 3, 32, 32] x) => (float[1, 8, 16, 16] z) {
  y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)
  z = Relu(y)
}
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the example's files and a model; commands run in it, 100 columns wide."""
    shutil.copytree(DOCS / "examples" / "hardware", tmp_path, dirs_exist_ok=True)
    model = parser.parse_model(MODEL)
    weights = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def test_there_are_commands() -> None:
    assert {command.split()[1] for command in COMMANDS} == {"validate", "predict", "devices"}


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_commands_run(command: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(command)[1:]) == 0
    shown = capsys.readouterr().out
    if "validate" in command:
        assert f"```sh\n{command}\n```\n\n```\n{shown}```" in TEXT
    if "predict" in command:
        assert "gpu:0/*/fp16" in shown


@pytest.mark.parametrize(
    "mistakes",
    [
        {"  accumulator: fp32": "  acumulator: fp32", "value: 16 GiB": "value: 16 Gb"},
        {
            "value: 80 TFLOPS": "value: 160 TFLOPS",
            "source: example.org/reviews/acme-g1": "source: todo",
            "value: 15.75 GB/s": "value: 31.5 GB/s",
        },
    ],
    ids=["unreadable", "implausible"],
)
def test_mistakes_are_shown_as_they_are(
    mistakes: dict[str, str], desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = desk / "acme-g1.yaml"
    text = path.read_text(encoding="utf-8")
    for right, wrong in mistakes.items():
        assert right in text
        text = text.replace(right, wrong, 1)
    path.write_text(text, encoding="utf-8")
    assert run(["validate", "acme-g1.yaml"]) == 19
    assert f"```\n{capsys.readouterr().out}```" in TEXT


def test_examples_have_no_findings(desk: Path) -> None:
    files = [str(path) for path in (DOCS / "examples").rglob("*.yaml")]
    assert run(["validate", "--strict", *files]) == 0


def test_rules_are_those_of_the_modules() -> None:
    for module in (lint, lint_pool):
        rules = re.findall(r"^([a-z-]+) +(?:error|warning) ", module.__doc__ or "", re.MULTILINE)
        raised = Path(str(module.__file__)).read_text(encoding="utf-8")
        for rule in rules:
            assert f"| `{rule}` |" in TEXT
            assert f'"{rule}"' in raised
        for rule in re.findall(r'Severity\.[A-Z]+, "([a-z-]+)"', raised):
            assert rule in rules


def test_the_table_of_pcie() -> None:
    for generation, transfers in PCIE_GT_PER_S.items():
        (row,) = re.findall(rf"^\| {generation}\.0 \| (.*) \|$", TEXT, re.MULTILINE)
        speed, encoding, *bandwidths = row.split(" | ")
        payload, _, coded = encoding.replace("b", "").partition("/")
        assert float(speed) == transfers
        assert int(payload) / int(coded) == PCIE_ENCODING[generation]
        assert [float(shown) for shown in bandwidths] == [
            pytest.approx(pcie_bandwidth(generation, lanes) / 1e9, rel=1e-3)
            for lanes in (1, 4, 8, 16)
        ]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (DOCS / target).exists(), target
