"""Plan files: exact round trips, and a refusal with the place of whatever is wrong."""

from __future__ import annotations

import copy
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dioe.planning import POLICIES, load_plan, plan_from_json
from dioe.types import (
    Basis,
    Boundary,
    InputError,
    Plan,
    PlanMismatch,
    Precision,
    Precisions,
    Resources,
    Stage,
    Target,
    TargetReport,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = texts.filter(bool)
parts = names.filter(lambda text: "/" not in text)
finite = st.floats(allow_nan=False, allow_infinity=False)
never_negative = st.floats(0, allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**63)
precisions = st.sampled_from(Precision)
dims = st.integers(0, 2**40) | texts | st.none()
resources = st.builds(
    Resources,
    cores=st.none() | st.lists(st.integers(0, 4096), max_size=3).map(tuple),
    threads=st.none() | st.integers(1, 4096),
    spin=st.none() | st.booleans(),
    streams=st.integers(1, 64),
    memory_limit_bytes=st.none() | st.integers(1, 2**63 - 1),
)
reports = st.builds(
    TargetReport,
    target=texts,
    state=texts,
    reason=texts,
    p50_ms=st.none() | never_negative,
    p90_ms=st.none() | never_negative,
    spread_ms=st.none() | never_negative,
    runs=counts,
    relative_l2=st.none() | never_negative,
    noisy=st.booleans(),
)


def tuples(values: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=most).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    stage_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    ops = draw(st.lists(names, min_size=len(stage_names), max_size=12, unique=True))
    mixes = [
        draw(st.builds(Precisions, precisions, st.dictionaries(texts, precisions, max_size=3)))
        for _ in stage_names
    ]
    stages = tuple(
        draw(
            st.builds(
                Stage,
                name=st.just(name),
                target=st.builds(Target, parts, parts, st.permutations(mix.used).map(tuple)),
                ops=st.just(tuple(ops[i :: len(stage_names)])),
                inputs=tuples(texts),
                outputs=tuples(texts),
                precisions=st.just(mix),
                resources=resources,
                options=st.dictionaries(
                    texts, texts | st.integers() | finite | st.booleans(), max_size=3
                ),
                predicted_ms=st.none() | never_negative,
                basis=st.sampled_from(Basis),
            )
        )
        for i, (name, mix) in enumerate(zip(stage_names, mixes, strict=True))
    )
    edges = [(a, b) for i, a in enumerate(stage_names) for b in stage_names[i + 1 :]]
    boundaries = tuple(
        Boundary(draw(texts), a, b, draw(st.none() | counts), draw(st.none() | never_negative))
        for a, b in edges
        if draw(st.booleans())
    )
    return draw(
        st.builds(
            Plan,
            model_sha256=texts,
            hardware=texts,
            stages=st.just(stages),
            boundaries=st.just(boundaries),
            shapes=st.dictionaries(texts, tuples(dims, 4), max_size=3),
            rewrites=tuples(texts),
            policy=st.sampled_from(POLICIES),
            precision=st.sampled_from(("auto", *map(str, Precision))),
            max_relative_l2=st.none() | never_negative.filter(bool),
            relative_l2=st.none() | never_negative,
            predicted_ms=st.none() | never_negative,
            basis=st.sampled_from(Basis),
            candidates=tuples(reports),
            notes=tuples(texts),
            versions=st.dictionaries(texts, texts, max_size=3),
        )
    )


@settings(max_examples=80, deadline=None)
@given(plans())
def test_round_trip(plan: Plan) -> None:
    text = plan.to_json()
    again = plan_from_json(text)
    assert again == plan
    assert again.to_json() == text
    # equal is not enough: 1, 1.0 and True are
    assert repr(again) == repr(plan)


EXAMPLE = Plan(
    model_sha256="ab" * 32,
    hardware="feed",
    stages=(
        Stage(
            name="s0",
            target=Target.parse("cpu/openvino/bf16+fp32"),
            ops=("conv", "relu"),
            inputs=("x",),
            outputs=("h",),
            precisions=Precisions(Precision.BF16, {"conv": Precision.FP32}),
            resources=Resources(cores=(0, 1), threads=2, spin=False),
            options={"tiles": 4, "fast": True, "scale": 0.5, "mode": "a"},
            predicted_ms=1.5,
            basis=Basis.MEASURED,
        ),
        Stage("s1", Target.parse("gpu:0/onnxruntime.webgpu/fp32"), ("gemm",), ("h",), ("y",)),
    ),
    boundaries=(Boundary("h", "s0", "s1", nbytes=4096, predicted_ms=0.1),),
    shapes={"x": (1, "height", None)},
    predicted_ms=2.0,
    candidates=(TargetReport("cpu/openvino/fp32", "ok", p50_ms=2.5, runs=10),),
    versions={"openvino": "2026.4.1"},
)


def test_what_a_file_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(EXAMPLE.to_json(), encoding="utf-8")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert (data["format"], data["version"]) == ("dioe-plan", 1)
    assert [stage["target"] for stage in data["stages"]] == [
        "cpu/openvino/bf16+fp32",
        "gpu:0/onnxruntime.webgpu/fp32",
    ]
    assert data["stages"][0]["precisions"] == {"default": "bf16", "exceptions": {"conv": "fp32"}}
    assert data["shapes"] == {"x": [1, "height", None]}
    assert load_plan(path) == load_plan(os.fspath(path)) == EXAMPLE


def test_what_may_be_left_out() -> None:
    head = {"format": "dioe-plan", "version": 1, "model_sha256": "ab", "hardware": "feed"}
    stage = {"name": "s", "target": "cpu/a/fp32", "ops": ["o"], "inputs": [], "outputs": ["y"]}
    plan = plan_from_json(json.dumps(head | {"stages": [stage]}))
    assert plan == Plan("ab", "feed", (Stage("s", Target("cpu", "a"), ("o",), (), ("y",)),))


# path of a value in the example, what to put there, and what the message says of it
BROKEN: list[tuple[str, Any, str]] = [
    ("model_sha256", 3, "model_sha256: str is wanted, not 3"),
    ("hardware", None, "hardware: str is wanted, not None"),
    ("stages", {}, "stages: a list is wanted"),
    ("stages", [], "has no stages"),
    ("stages[1]", "s1", r"stages\[1\]: an object is wanted"),
    ("stages[1].name", "s0", "two stages have one name"),
    ("stages[0].name", ["s0"], r"stages\[0\]\.name: str is wanted"),
    ("stages[0].target", "cpu/openvino", r"stages\[0\]\.target: 'cpu/openvino' is not a target"),
    ("stages[0].target", "cpu/openvino/fp31", r"stages\[0\]\.target: .*'fp31' is not a valid"),
    ("stages[0].target", "//fp32", r"stages\[0\]\.target: '//fp32' is not a target"),
    ("stages[0].target", {"device": "cpu"}, r"stages\[0\]\.target: str is wanted"),
    ("stages[0].ops", "conv", r"stages\[0\]\.ops: a list is wanted"),
    ("stages[0].ops[1]", None, r"stages\[0\]\.ops\[1\]: str is wanted"),
    ("stages[1].ops[0]", "conv", "op 'conv' is planned twice"),
    ("stages[0].ops[1]", "conv", "op 'conv' is planned twice"),
    ("stages[0].precisions.default", "fp64", r"stages\[0\]\.precisions\.default: 'fp64' is none"),
    ("stages[0].precisions.default", [], r"precisions\.default: \[\] is none of fp32, fp16"),
    ("stages[0].precisions.exceptions", [], r"precisions\.exceptions: an object is wanted"),
    ("stages[0].precisions.exceptions.conv", 1, r"precisions\.exceptions\.conv: 1 is none of"),
    ("stages[0].resources.threads", 1.5, r"stages\[0\]\.resources\.threads: int is wanted"),
    ("stages[0].resources.threads", True, r"resources\.threads: int is wanted, not True"),
    ("stages[0].resources.spin", 1, r"resources\.spin: bool is wanted"),
    ("stages[0].resources.streams", None, r"resources\.streams: int is wanted, not None"),
    ("stages[0].resources.cores[0]", "0", r"resources\.cores\[0\]: int is wanted"),
    ("stages[0].options.tiles", [4], r"stages\[0\]\.options\.tiles: str is wanted, not \[4\]"),
    ("stages[0].options.tiles", None, r"stages\[0\]\.options\.tiles: str is wanted, not None"),
    ("stages[0].predicted_ms", "fast", r"stages\[0\]\.predicted_ms: float is wanted"),
    ("stages[0].predicted_ms", float("nan"), r"stages\[0\]\.predicted_ms: nan is not a finite"),
    ("stages[0].predicted_ms", 10**400, r"stages\[0\]\.predicted_ms: .* too large"),
    ("stages[0].options.scale", float("inf"), r"stages\[0\]\.options\.scale: inf is not a finite"),
    ("stages[0].basis", "guessed", r"stages\[0\]\.basis: 'guessed' is none of measured"),
    ("stages[0].library", "./evil.so", r"stages\[0\]\.library: unknown key"),
    ("boundaries[0].source", "s9", "boundary of 'h' names an unknown stage"),
    ("boundaries[0].destination", "s0", "boundary of 'h' goes backwards"),
    ("boundaries[0].nbytes", 0.5, r"boundaries\[0\]\.nbytes: int is wanted"),
    ("shapes.x", 3, r"shapes\.x: a list is wanted"),
    ("shapes.x[0]", 1.0, r"shapes\.x\[0\]: int is wanted, not 1\.0"),
    ("shapes.x[0]", True, r"shapes\.x\[0\]: int is wanted, not True"),
    ("policy", None, "policy: str is wanted"),
    ("policy", "speed", "policy: 'speed' is none of latency"),
    ("precision", "fp31", "precision: 'fp31' is none of auto, fp32, "),
    ("predicted_ms", -1.0, r"predicted_ms: -1\.0 is below 0"),
    ("stages[0].predicted_ms", -0.5, r"stages\[0\]\.predicted_ms: -0\.5 is below 0"),
    ("boundaries[0].predicted_ms", -2, r"boundaries\[0\]\.predicted_ms: -2\.0 is below 0"),
    ("boundaries[0].nbytes", -2, r"boundaries\[0\]\.nbytes: -2 is below 0"),
    ("candidates[0].p50_ms", -2, r"candidates\[0\]\.p50_ms: -2\.0 is below 0"),
    ("candidates[0].runs", -2, r"candidates\[0\]\.runs: -2 is below 0"),
    ("max_relative_l2", -0.1, r"max_relative_l2: -0\.1 is below 0"),
    ("max_relative_l2", 0, "max_relative_l2: nothing is within 0"),
    ("relative_l2", -0.1, r"relative_l2: -0\.1 is below 0"),
    ("candidates[0].runs", "10", r"candidates\[0\]\.runs: int is wanted"),
    ("candidates[0].noisy", 0, r"candidates\[0\]\.noisy: bool is wanted"),
    ("notes", "a note", "notes: a list is wanted"),
    ("versions.openvino", 2026.4, r"versions\.openvino: str is wanted"),
    ("import", "os", "import: unknown key"),
    ("policy", ["x" * 10_000], r"policy: str is wanted, not \['xxx"),
]


def put(data: Any, path: str, value: Any) -> None:
    """Set what ``path`` (``a.b[0]``) names within ``data``."""
    *parents, last = path.replace("[", ".[").split(".")
    for key in parents:
        data = data[int(key[1:-1])] if key.startswith("[") else data[key]
    data[int(last[1:-1]) if last.startswith("[") else last] = value


@pytest.mark.parametrize(("path", "value", "message"), BROKEN)
def test_a_broken_field(path: str, value: Any, message: str) -> None:
    data = copy.deepcopy(json.loads(EXAMPLE.to_json()))
    put(data, path, value)
    with pytest.raises(PlanMismatch, match=message) as caught:
        plan_from_json(json.dumps(data), place="here.json")
    assert caught.value.place == "here.json"
    assert "dioe plan" in caught.value.fix
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "path",
    ["model_sha256", "hardware", "stages", *(f"stages[1].{key}" for key in ("name", "target"))],
)
def test_a_missing_field(path: str) -> None:
    data = json.loads(EXAMPLE.to_json())
    holder = data["stages"][1] if path.startswith("stages[") else data
    del holder[path.rpartition(".")[2]]
    with pytest.raises(PlanMismatch) as caught:
        plan_from_json(json.dumps(data))
    assert caught.value.cause == f"{path}: is missing"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(EXAMPLE.to_json()) - 3))
def test_truncated(length: int) -> None:
    with pytest.raises(PlanMismatch, match="not JSON"):
        plan_from_json(EXAMPLE.to_json()[:length])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("devices:\n- id: cpu\n", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ("null", "not a DIOE plan"),
        ("[1, 2]", "not a DIOE plan"),
        ("{}", "not a DIOE plan"),
        ('{"format": "dioe-pool", "version": 1}', "not a DIOE plan"),
        ('{"format": ["dioe-plan"], "version": 1}', "not a DIOE plan"),
        ('{"format": "dioe-plan"}', "plan version None, this DIOE reads 1"),
        ('{"format": "dioe-plan", "version": 2}', "plan version 2, this DIOE reads 1"),
        ('{"format": "dioe-plan", "version": "1"}', "plan version 1, this DIOE reads 1"),
        ('{"format": "dioe-plan", "version": 1}', "model_sha256: is missing"),
        ("[" * 200_000, "not JSON"),
        ('{"format": "dioe-plan", "version": 1, "hardware": ' + "1" * 10_000 + "}", "not JSON"),
    ],
)
def test_not_a_plan(text: str, message: str) -> None:
    with pytest.raises(PlanMismatch, match=message):
        plan_from_json(text)


def test_deep_nesting() -> None:
    # at some depth the parser still copes and describing what it found no longer does
    for depth in range(800, sys.getrecursionlimit()):
        data = EXAMPLE.to_json().replace('"bf16"', "[" * depth + "]" * depth)
        with pytest.raises(PlanMismatch, match=r"not JSON|nested too deeply|is none of"):
            plan_from_json(data)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PlanMismatch, match="No such file") as caught:
        load_plan(tmp_path / "missing.json")
    assert caught.value.place == str(tmp_path / "missing.json")
    with pytest.raises(PlanMismatch, match="Is a directory"):
        load_plan(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08\x12\x03\xff\xfe\x81")
    with pytest.raises(PlanMismatch, match="can't read the plan"):
        load_plan(tmp_path / "model.onnx")
    with pytest.raises(PlanMismatch, match="null"):
        load_plan("plan\0.json")


@pytest.mark.parametrize("path", [None, {"format": "dioe-plan"}, 3, b"plan.json", EXAMPLE])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(InputError, match=f"path is a {type(path).__name__}"):
        load_plan(path)


@pytest.mark.parametrize("text", [EXAMPLE.to_json(), "\n" + EXAMPLE.to_json(), '{"a": 1'])
def test_the_text_of_a_plan_is_no_path(text: str) -> None:
    with pytest.raises(InputError, match="the text of a plan") as caught:
        load_plan(text)
    assert "dioe.load_plan" in caught.value.fix
    assert len(str(caught.value)) < 300


def test_a_huge_file_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse

    def never(*args: Any, **kwargs: Any) -> str:
        raise AssertionError("was read")

    monkeypatch.setattr(Path, "read_text", never)
    with pytest.raises(PlanMismatch, match="too large for a plan") as caught:
        load_plan(path)
    assert caught.value.place == str(path)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("stage", "cause"),
    [
        ({"precisions": Precisions(Precision.BF16)}, "other precisions than its target"),
        ({"resources": Resources(threads=2**40)}, "out of range for a resource"),
        ({"resources": Resources(threads=-1)}, "out of range for a resource"),
        ({"resources": Resources(streams=0)}, "out of range for a resource"),
        ({"resources": Resources(cores=(-1,))}, "out of range for a resource"),
    ],
)
def test_what_no_stage_can_be(stage: dict[str, Any], cause: str) -> None:
    broken = replace(EXAMPLE.stages[0], **stage)
    plan = replace(EXAMPLE, stages=(broken, *EXAMPLE.stages[1:]))
    with pytest.raises(PlanMismatch, match=cause):
        plan_from_json(plan.to_json())


def test_dimensions_that_nothing_has() -> None:
    with pytest.raises(PlanMismatch, match="'x' has a dimension that is out of range"):
        plan_from_json(replace(EXAMPLE, shapes={"x": (2**70,)}).to_json())
