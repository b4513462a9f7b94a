"""``dioe predict``."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from tests.unit.cli.conftest import Dioe
from tests.unit.tuning.test_predict import model

POOL = """
devices:
- id: gpu:0
  name: Some card
  figures:
    peaks:
    - {precision: fp32, value: 10 TFLOPS, source: a sheet, kind: vendor}
    - {precision: fp16, value: 40 TFLOPS, source: a sheet, kind: vendor}
    memory:
      bandwidth: {value: 500 GB/s, source: a sheet, kind: vendor}
- id: npu:0
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    onnx.save(model(), tmp_path / "model.onnx")
    (tmp_path / "pool.yaml").write_text(POOL)
    return str(tmp_path / "model.onnx"), str(tmp_path / "pool.yaml")


def test_a_table_with_what_it_rests_on(dioe: Dioe, files: tuple[str, str]) -> None:
    shown = dioe("predict", files[0], "--hardware", files[1], "--shape", "x=64,1024")
    assert shown.code == 0
    for text in (
        "3 ops in 2 kernels", "x 64×1024", "gpu:0/*/fp16", "Some card", "vendor figure × 0.44",
        "npu:0/*/*: no figures of it", "8.0 MiB",
    ):  # fmt: skip
        assert text in shown.out
    assert "Predicted from figures, nothing was run" in shown.out


def test_the_dearest_kernels(dioe: Dioe, files: tuple[str, str]) -> None:
    shown = dioe("predict", files[0], "--hardware", files[1], "--kernels", "1")
    assert "Dearest kernels on gpu:0/*/fp16" in shown.out
    assert ("first and 1 fused" in shown.out) is not ("second" in shown.out), "one of two"


def test_ops_of_unknown_work_are_named(dioe: Dioe, files: tuple[str, str]) -> None:
    open_ended = parser.parse_model("""
    <ir_version: 9, opset_import: ["": 17]>
    g (float[8, 8] x) => (float[n, 2] y) {
      [find] found = NonZero(x)
      [cast] rows = Cast<to = 1>(found)
      [turn] y = Transpose(rows)
    }
    """)
    onnx.save(open_ended, files[0])
    shown = dioe("predict", files[0], "--hardware", files[1])
    assert shown.code == 0
    assert "of 3 ops not all work is known, which isn't counted: find, cast, turn" in shown.out


def test_json(dioe: Dioe, files: tuple[str, str]) -> None:
    found = dioe("predict", files[0], "--hardware", files[1], "--json").json
    assert set(found) == {"shapes", "ops", "kernels", "flops", "unknown", "predictions"}
    best = found["predictions"][0]
    assert best["known_as"] == "modelled"
    assert best["ms"] == pytest.approx(sum(k["ms"] for k in best["kernels"]))
    assert all(k["basis"] for k in best["kernels"])
    assert found["predictions"][-1]["ms"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--hardware", "nowhere.yaml"), 19, "no such file"),
        (("--devices", "gpu:9"), 11, "no device 'gpu:9'"),
        (("--shape", "z=1"), 11, "z"),
        (("--kernels", "-1"), 2, "--kernels"),
    ],
)
def test_errors(
    dioe: Dioe, files: tuple[str, str], arguments: tuple[str, str], code: int, text: str
) -> None:
    given = arguments if "--hardware" in arguments else ("--hardware", files[1], *arguments)
    shown = dioe("predict", files[0], *given)
    assert shown.code == code
    assert text in shown.err
    assert shown.out == ""


def test_int8_of_a_model_in_floats_says_that_it_is_a_wish(
    dioe: Dioe, files: tuple[str, str]
) -> None:
    wish = "int8 is what the model would take once it is quantised"
    assert wish not in " ".join(dioe("predict", files[0], "--hardware", files[1]).out.split())
    shown = dioe("predict", files[0], "--hardware", "mlu370-x8-host")
    assert wish in " ".join(shown.out.split())
