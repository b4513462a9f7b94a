"""Lists of known failures: what a line may look like."""

from __future__ import annotations

import pytest

from dioe.testing.known_failures import parse
from dioe.types import ConfigError

ID = "nodes::test_node[fp32-round]"


@pytest.mark.parametrize(
    "line",
    [
        f"{ID}  rounds halves up",
        "test_nodes.py::test_node[fp32-round]  rounds halves up",
        "../lib/dioe/testing/conformance/test_nodes.py::test_node[fp32-round]  rounds halves up",
        r"conformance\test_nodes.py::test_node[fp32-round]  rounds halves up",
        "FAILED ../testing/conformance/test_nodes.py::test_node[fp32-round] - rounds halves up",
        "ERROR test_nodes.py::test_node[fp32-round] - rounds halves up",
    ],
)
def test_ids_may_be_pasted_from_pytest(line: str) -> None:
    assert parse(f"# a comment\n\n{line}\n", "list") == {ID: "rounds halves up"}


@pytest.mark.parametrize(
    "text",
    [
        ID,
        f"FAILED {ID}",
        "test_node[fp32-round] rounds halves up",
        f"{ID} one reason\ntest_nodes.py::test_node[fp32-round] another",
    ],
)
def test_lines_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, "list")
