"""``dioe run``: one run on real inputs, its outputs as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dioe.cli.run import _zeros_text
from dioe.types import Plan, Stage, Target
from tests.toys import models
from tests.unit.cli.conftest import QUICK, Dioe, UseBackends, files_in, is_told, rows


def test_outputs_are_written_and_right(dioe: Dioe, model: Path, x: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "outputs"
    shown = dioe("run", model, "--input", f"x={x}", "--output", folder, *QUICK)
    assert shown.code == 0
    assert shown.err == ""
    assert files_in(folder) == {"y.npy"}
    found = np.load(folder / "y.npy")
    np.testing.assert_allclose(found, models.dense_output(models.dense(), rows()), atol=1e-5)
    assert "cpu/onnxruntime/fp32" in shown.out


def test_without_a_folder_nothing_is_written(
    dioe: Dioe, model: Path, x: Path, tmp_path: Path
) -> None:
    before = files_in(tmp_path)
    shown = dioe("run", model, "--input", f"x={x}", *QUICK)
    assert shown.code == 0
    assert "not written" in shown.out
    assert "[4, 8]" in shown.out
    assert files_in(tmp_path) == before


def test_json(dioe: Dioe, model: Path, x: Path, tmp_path: Path) -> None:
    call = ["run", model, "--input", f"x={x}", "--json", *QUICK]
    found = dioe(*call, "--output", tmp_path / "out").json
    assert set(found) == {"targets", "stages", "run_ms", "known_as", "outputs"}
    assert found["targets"] == ["cpu/onnxruntime/fp32"]
    (stage,) = found["stages"]
    assert stage["target"] == "cpu/onnxruntime/fp32"
    assert stage["ops"] == 4
    assert found["run_ms"] > 0
    file = str(tmp_path / "out" / "y.npy")
    expected = {"file": file, "name": "y", "dtype": "float32", "shape": [4, 8]}
    assert found["outputs"] == [expected]
    assert dioe(*call).json["outputs"] == [expected | {"file": None}]


def test_a_plan_made_before_is_used(
    dioe: Dioe, model: Path, x: Path, plan: Path, tmp_path: Path
) -> None:
    shown = dioe("run", model, "--input", f"x={x}", "--plan", plan, "--output", tmp_path / "out")
    assert shown.code == 0
    found = np.load(tmp_path / "out" / "y.npy")
    np.testing.assert_allclose(found, models.dense_output(models.dense(), rows()), atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        ["--devices", "cpu/openvino"], ["--devices", "auto"], ["--pin", "type:Relu=cpu"],
        ["--strict"], ["--precision", "bf16"], ["--max-relative-l2", "0.1"],
    ],
)  # fmt: skip
def test_what_the_plan_has_decided_is_11(
    dioe: Dioe, model: Path, x: Path, plan: Path, given: list[str]
) -> None:
    call = ["run", model, "--input", f"x={x}", "--plan", plan]
    is_told(dioe(*call, *given), 11, given[0], "--plan", "leave")


def test_beside_a_plan_the_environment_does_not_count(
    dioe: Dioe, model: Path, x: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIOE_DEVICES", "cpu/openvino")
    monkeypatch.setenv("DIOE_PRECISION", "auto")
    found = dioe("run", model, "--input", f"x={x}", "--plan", plan, "--json").json
    assert found["targets"] == ["cpu/onnxruntime/fp32"]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("predicted_ms",), -1.0, "predicted_ms: -1.0 is below 0"),
        (("policy",), "speed", "policy: 'speed'"),
        (("max_relative_l2",), -1, "max_relative_l2"),
        (("shapes",), {"x": [1.5, 8]}, "shapes.x[0]"),
        (("shapes",), {"x": ["M", 8]}, "shapes.x[0]"),
        (("versions", "onnxruntime"), "0.1", "versions.onnxruntime: made with 0.1"),
        (("stages", 0, "resources", "cores"), [4000], "stages[0].resources.cores: there is no"),
        (("stages", 0, "inputs"), ["q"], "stages[0].inputs: 'q'"),
        (("stages", 0, "outputs"), [], "stages[0].outputs: 'y' is missing"),
    ],
)
def test_an_edited_plan_is_14(
    dioe: Dioe, model: Path, x: Path, plan: Path, path: tuple[Any, ...], value: Any, says: str
) -> None:
    content = json.loads(plan.read_text())
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    plan.write_text(json.dumps(content))
    is_told(dioe("run", model, "--input", f"x={x}", "--plan", plan), 14, plan, says, "dioe plan")


def test_a_plan_of_another_model_is_14(dioe: Dioe, x: Path, plan: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(models.dense(seed=8), other)
    outcome = dioe("run", other, "--input", f"x={x}", "--plan", plan, "--output", tmp_path / "out")
    is_told(outcome, 14, "another model", "dioe plan")
    assert not (tmp_path / "out").exists()


def test_a_plan_of_another_machine_is_14(dioe: Dioe, model: Path, x: Path, plan: Path) -> None:
    content = json.loads(plan.read_text())
    content["hardware"] = "0123456789abcdef"
    plan.write_text(json.dumps(content))
    is_told(dioe("run", model, "--input", f"x={x}", "--plan", plan), 14, "other hardware")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "dioe-plan", "version": 2}', None])
def test_what_is_no_plan_is_14(
    dioe: Dioe, model: Path, x: Path, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text)
    is_told(dioe("run", model, "--input", f"x={x}", "--plan", path), 14, path, "dioe plan")


def test_a_plan_for_a_backend_that_is_gone_is_12(
    dioe: Dioe, model: Path, x: Path, plan: Path, use_backends: UseBackends
) -> None:
    use_backends(installed=("reference",))
    is_told(dioe("run", model, "--input", f"x={x}", "--plan", plan), 12, "'onnxruntime'")


def test_missing_inputs_are_11(dioe: Dioe, model: Path) -> None:
    is_told(dioe("run", model, *QUICK), 11, "missing input: x float32[N,8]")


def test_a_model_without_inputs_runs(dioe: Dioe, tmp_path: Path) -> None:
    path = tmp_path / "constant.onnx"
    onnx.save(
        models.parse("g () => (float[2] y) { y = Constant<value_floats = [1.5, 2]>() }"), path
    )
    assert dioe("run", path, "--output", tmp_path / "out", *QUICK).code == 0
    assert np.load(tmp_path / "out" / "y.npy").tolist() == [1.5, 2.0]


@pytest.mark.parametrize("where", ["file", "file/deeper"])
def test_a_folder_that_is_a_file_is_19(
    dioe: Dioe, model: Path, x: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    call = ["run", model, "--input", f"x={x}", "--output", tmp_path / where, *QUICK]
    is_told(dioe(*call), 19, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_one_file_that_cant_be_written_keeps_all_from_it(dioe: Dioe, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.branches(), path)
    np.save(tmp_path / "x.npy", rows(3, 6))
    folder = tmp_path / "out"
    (folder / "z.npy").mkdir(parents=True)
    call = ["run", path, "--input", f"x={tmp_path / 'x.npy'}", "--output", folder, *QUICK]
    is_told(dioe(*call), 19, "z.npy")
    assert files_in(folder) == set()


def test_a_cache_that_is_a_file_is_19(
    dioe: Dioe, model: Path, x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cache-file"
    place.write_text("in the way")
    monkeypatch.setenv("DIOE_CACHE_DIR", str(place))
    call = ["run", model, "--input", f"x={x}", "--tuning-budget", "0.2"]
    is_told(dioe(*call), 19, "DIOE_CACHE_DIR", place)


def test_a_cache_that_cant_be_written_is_a_warning(
    dioe: Dioe, model: Path, x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "plans").write_text("in the way")
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "cache"))
    shown = dioe("run", model, "--input", f"x={x}", "--tuning-budget", "0.2", "--json")
    assert shown.code == 0
    assert shown.json["outputs"]
    assert str(tmp_path / "cache") in shown.err
    assert "Traceback" not in shown.err


def save_output_names(path: Path, names: list[str]) -> None:
    """A model with an output of each name."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], [name]) for name in names],
        "names",
        [info("x", TensorProto.FLOAT, [2])],
        [info(name, TensorProto.FLOAT, [2]) for name in names],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def test_names_that_no_file_can_have(dioe: Dioe, tmp_path: Path) -> None:
    names = ["a/b", "a_b", "A:B", "..", "../../out", "[red]", "ü"]
    path, x = tmp_path / "model.onnx", np.array([1.0, 2.0], np.float32)
    save_output_names(path, names)
    np.save(tmp_path / "x.npy", x)
    folder = tmp_path / "out" / "here"
    call = ["run", path, "--input", f"x={tmp_path / 'x.npy'}", "--output", folder, *QUICK]
    found = dioe(*call, "--json").json["outputs"]
    assert [output["name"] for output in found] == names
    files = [Path(output["file"]) for output in found]
    assert len(set(files)) == len(names)
    assert files_in(tmp_path / "out") == {f"here/{file.name}" for file in files}
    for file in files:
        assert not file.name.startswith(".")
        np.testing.assert_array_equal(np.load(file), x)
    shown = dioe(*call)
    assert shown.code == 0
    assert "[red]" in shown.out


def test_text_and_sequences_are_files_too(dioe: Dioe, tmp_path: Path) -> None:
    model = models.parse("""
        g (float[N] x) => (seq(float[M]) parts, float[N] y) {
            parts = SplitToSequence<axis = 0, keepdims = 1>(x)
            y = Relu(x)
        }
    """)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    np.save(tmp_path / "x.npy", np.array([1.0, -2.0], np.float32))
    folder = tmp_path / "out"
    call = ["run", path, "--input", f"x={tmp_path / 'x.npy'}", "--output", folder, *QUICK]
    assert dioe(*call).code == 0
    assert files_in(folder) == {"parts.0.npy", "parts.1.npy", "y.npy"}
    assert np.load(folder / "parts.1.npy").tolist() == [-2.0]


def test_strings_are_written_without_pickle(dioe: Dioe, tmp_path: Path) -> None:
    model = models.parse("g (int64[N] x) => (string[N] s) { s = Cast<to = 8>(x) }")
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    np.save(tmp_path / "x.npy", np.array([3, -44]))
    folder = tmp_path / "out"
    call = ["run", path, "--input", f"x={tmp_path / 'x.npy'}", "--output", folder, *QUICK]
    assert dioe(*call).code == 0
    assert np.load(folder / "s.npy").tolist() == ["3", "-44"]


def test_outputs_of_modelled_stages_are_said_to_mean_nothing(
    dioe: Dioe, tmp_path: Path, use_backends: UseBackends
) -> None:
    use_backends(installed=("onnxruntime", "null"))
    path, x = tmp_path / "model.onnx", tmp_path / "x.npy"
    onnx.save(models.branches(), path)
    np.save(x, rows(3, 6))
    call = ["run", path, "--input", f"x={x}", *QUICK, "--devices"]
    found = " ".join(dioe(*call, "npu:0/null").out.split())
    assert "outputs mean nothing: on a modelled device nothing is executed" in found
    names = [output.name for output in models.branches().graph.output]
    assert f"(s0 on npu:0/null/fp32); made of its zeros: {', '.join(names)}" in found
    assert dioe(*call, "npu:0/null", "--json").json["stages"][0]["modelled"] is True
    assert "mean nothing" not in dioe(*call, "cpu/onnxruntime").out


def test_only_what_comes_from_a_modelled_stage_means_nothing() -> None:
    def stage(name: str, device: str, reads: str, makes: str) -> Stage:
        return Stage(name, Target(device, "b"), (name,), tuple(reads), tuple(makes))

    stages = (
        stage("s0", "cpu", "x", "ay"),
        stage("s1", "npu:0", "a", "bc"),
        stage("s2", "cpu", "b", "z"),
    )
    told = _zeros_text(Plan("", "", stages), [stages[1]], ["y", "z", "c"])
    assert "(s1 on npu:0/b/fp32)" in told
    assert told.endswith("zeros: z, c")
