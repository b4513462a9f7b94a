"""The contract: what its values and errors do by themselves."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pickle
import re
import traceback
import typing
from pathlib import Path
from typing import Any, cast

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dioe import types
from dioe.types import (
    DONE,
    Basis,
    BlockReport,
    Boundary,
    Buffer,
    DeviceInfo,
    DioeError,
    HostBuffer,
    InputError,
    ModelError,
    OpTime,
    Plan,
    PlanMismatch,
    Precision,
    Precisions,
    Stage,
    Support,
    Target,
    TargetReport,
    TensorSpec,
    Tradeoff,
)

FP32, FP16, BF16, INT8, INT4 = Precision


def errors(kind: type[DioeError] = DioeError) -> list[type[DioeError]]:
    return [kind, *(each for sub in kind.__subclasses__() for each in errors(sub))]


# --- errors


def test_exit_codes_are_distinct_and_free() -> None:
    own = [e for e in errors() if e.__module__ == "dioe.types"]
    codes = [e.exit_code for e in own]
    assert len(own) > 10
    assert len(set(codes)) == len(codes)
    # 0 is success, 2 wrong usage, from 126 on the shell's own
    assert set(codes).isdisjoint({0, 2})
    assert all(1 <= code < 126 for code in codes)


@pytest.mark.parametrize(
    ("place", "fix", "text"),
    [
        ("", "", "it broke"),
        ("model.onnx", "", "model.onnx: it broke"),
        ("", "mend it", "it broke\n  mend it"),
        ("model.onnx", "mend it", "model.onnx: it broke\n  mend it"),
    ],
)
def test_an_error_says_cause_place_and_fix(place: str, fix: str, text: str) -> None:
    error = ModelError("it broke", place=place, fix=fix)
    assert str(error) == text
    assert (error.cause, error.place, error.fix) == ("it broke", place, fix)


@pytest.mark.parametrize("kind", [e for e in errors() if e.__module__ == "dioe.types"])
def test_an_error_survives_the_way_from_a_worker_process(kind: type[DioeError]) -> None:
    again = pickle.loads(pickle.dumps(kind("it broke", place="here", fix="mend it")))
    assert type(again) is kind
    assert (again.cause, again.place, again.fix) == ("it broke", "here", "mend it")


# --- targets and precisions

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
    lambda text: "/" not in text
)


@given(names, names, st.lists(st.sampled_from(Precision), min_size=1, max_size=3, unique=True))
def test_a_target_reads_back_what_it_prints(
    device: str, backend: str, precisions: list[Precision]
) -> None:
    target = Target(device, backend, tuple(precisions))
    assert Target.parse(str(target)) == target


def test_targets_of_the_architecture() -> None:
    mixed = Target.parse("cpu/openvino/bf16+fp32")
    assert mixed == Target("cpu", "openvino", (BF16, FP32))
    provider = Target.parse("gpu:0/onnxruntime.webgpu/fp32")
    assert (provider.device, provider.backend) == ("gpu:0", "onnxruntime.webgpu")
    assert str(Target("cpu", "reference")) == "cpu/reference/fp32"


@pytest.mark.parametrize(
    "text",
    ["", "cpu", "cpu/openvino", "cpu/openvino/", "cpu/openvino/fp64", "cpu/openvino/bf16+",
     "cpu/openvino/fp32/x", "/openvino/fp32", "cpu//fp32", "cpu/openvino/FP32"],
)  # fmt: skip
def test_not_a_target(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(text))) as caught:
        Target.parse(text)
    assert "cpu/openvino/fp32" in caught.value.fix


def test_precisions_of_ops() -> None:
    mixed = Precisions(BF16, {"head": FP32, "norm": FP32, "embed": INT8})
    assert (mixed.of("head"), mixed.of("body")) == (FP32, BF16)
    assert mixed.used == (BF16, FP32, INT8)
    assert Precisions().used == (FP32,)
    assert Precisions(FP32, {"a": FP32}).used == (FP32,)


# --- values


@pytest.mark.parametrize(
    ("shape", "static"),
    [((1, 3), True), ((), True), (("N", 3), False), ((None, 3), False), (None, False)],
)
def test_whether_a_spec_is_static(shape: tuple[int, ...] | None, static: bool) -> None:
    assert TensorSpec("x", np.dtype(np.float32), shape).static is static


def test_a_host_buffer_shares_its_array() -> None:
    array = np.random.default_rng(1).normal(size=(3, 4))
    buffer = HostBuffer(array)
    assert isinstance(buffer, Buffer)
    assert not isinstance(array, Buffer)
    assert buffer.numpy() is array
    assert (buffer.device, buffer.dtype, buffer.shape) == ("cpu", array.dtype, (3, 4))
    assert buffer.strides is None
    assert HostBuffer(array.T).strides == (8, 32)
    assert HostBuffer(array[:, ::2]).strides == (32, 16)
    assert np.shares_memory(np.from_dlpack(cast(Any, buffer)), array)
    assert buffer.ready.done()
    DONE.wait(0.0)


def test_support() -> None:
    assert Support(frozenset({"a"})).whole
    assert not Support(frozenset({"a"}), {"b": "too new"}).whole


def test_mean_time_of_an_op() -> None:
    assert OpTime("n", "Conv", ("conv",), 9.0, 3).mean_ms == 3.0
    assert OpTime("n", "Conv", ("conv",), 0.0, 0).mean_ms == 0.0


# --- plans

STAGES = (
    Stage("s0", Target.parse("cpu/a/bf16"), ("conv", "relu"), ("x",), ("h",)),
    Stage("s1", Target.parse("gpu:0/b/fp32"), ("gemm",), ("h",), ("z",)),
    Stage("s2", Target.parse("cpu/a/bf16"), ("softmax",), ("z",), ("y",)),
)
PLAN = Plan(
    model_sha256="ab" * 32,
    hardware="feed",
    stages=STAGES,
    boundaries=(Boundary("h", "s0", "s1", 1024), Boundary("z", "s1", "s2", 64)),
    predicted_ms=3.25,
    basis=Basis.MEASURED,
    candidates=(
        TargetReport("cpu/a/fp32", "unsupported", "no kernel for Foo"),
        TargetReport("gpu:0/b/fp32", "ok", p50_ms=6.5, runs=30, relative_l2=2e-7, noisy=True),
        TargetReport("cpu/a/bf16", "ok", p50_ms=3.25, runs=60, relative_l2=4e-3),
        TargetReport("cpu/c/fp32", "slow", "4 times slower", p50_ms=13.0, runs=1),
    ),
    notes=("real inputs",),
)


def test_targets_of_a_plan() -> None:
    assert PLAN.targets == ("cpu/a/bf16", "gpu:0/b/fp32")


def test_the_stage_graph() -> None:
    graph = PLAN.graph
    assert list(nx.topological_sort(graph)) == ["s0", "s0>s1:h", "s1", "s1>s2:z", "s2"]
    kinds = {name: data["kind"] for name, data in graph.nodes.items()}
    assert [kinds[n] for n in ("s0", "s0>s1:h", "s1")] == ["stage", "transfer", "stage"]
    assert graph.nodes["s1"]["stage"] is STAGES[1]
    assert graph.nodes["s0>s1:h"]["boundary"].nbytes == 1024
    assert graph.graph["model"] == PLAN.model_sha256


def test_explaining_a_plan() -> None:
    assert PLAN.explain().splitlines() == [
        "plan: cpu/a/bf16 -> gpu:0/b/fp32, 3.250 ms (measured)",
        "  cpu/a/bf16: ok, 3.250 ms (x1.00), n=60, error 0.004",
        "  gpu:0/b/fp32: ok, 6.500 ms (x2.00), n=30, noisy, error 2e-07",
        "  cpu/c/fp32: slow, 13.000 ms (x4.00), n=1; 4 times slower",
        "  cpu/a/fp32: unsupported; no kernel for Foo",
        "  note: real inputs",
    ]
    untimed = dataclasses.replace(
        PLAN, predicted_ms=None, basis=Basis.DEFAULT, candidates=(), notes=()
    )
    assert untimed.explain() == "plan: cpu/a/bf16 -> gpu:0/b/fp32, not measured (default)\n"


def test_explaining_a_mixed_plan() -> None:
    blocks = (
        BlockReport("b0", "conv", ("a",), "s0", "cpu/a/bf16", 0.5),
        BlockReport("b1", "conv", ("b",), "s0", "cpu/a/fp32", 2.0),
        BlockReport("b2", "conv", ("c",), "s1", "cpu/a/bf16", 0.25),
    )
    curve = (
        Tradeoff("cpu/a: fp32", 0, 0.0, 6.0),
        Tradeoff("cpu/a: bf16 in 2 of 3 blocks", 9, 0.0123, 2.5, Basis.MEASURED),
    )
    plan = dataclasses.replace(PLAN, candidates=(), blocks=blocks, tradeoffs=curve)
    assert plan.explain().splitlines() == [
        "plan: cpu/a/bf16 -> gpu:0/b/fp32, 3.250 ms (measured)",
        "  blocks on cpu/a/fp32: 1 of 3, 2.000 ms",
        "  blocks on cpu/a/bf16: 2 of 3, 0.750 ms",
        "  choice: error 0, 6.000 ms (predicted), 0 ops lowered; cpu/a: fp32",
        "  choice: error 0.012, 2.500 ms (measured), 9 ops lowered; cpu/a: bf16 in 2 of 3 blocks",
        "  note: real inputs",
    ]


def test_the_bound_of_a_plan_is_known_where_the_least_of_every_block_is() -> None:
    blocks = [
        BlockReport("b0", "conv", ("a",), "s0", "cpu/a/bf16", 0.5, least_ms=0.5),
        BlockReport("b1", "conv", ("b",), "s0", "cpu/a/fp32", 2.0, least_ms=1.25),
    ]
    assert dataclasses.replace(PLAN, blocks=tuple(blocks)).bound_ms == 1.75
    blocks.append(BlockReport("b2", "conv", ("c",), "s1", "cpu/a/bf16", 0.25))
    assert dataclasses.replace(PLAN, blocks=tuple(blocks)).bound_ms is None
    assert dataclasses.replace(PLAN, blocks=()).bound_ms is None


# --- the package itself


def test_values_are_frozen() -> None:
    found = [
        each
        for each in vars(types).values()
        if dataclasses.is_dataclass(each) and isinstance(each, type)
    ]
    assert len(found) > 10
    for each in found:
        assert each.__dataclass_params__.frozen, each  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        DeviceInfo("cpu", "cpu").id = "gpu:0"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAN.policy = "throughput"  # type: ignore[misc]


MODULES = sorted(Path(types.__file__).parent.glob("*.py"))


def test_the_contract_needs_numpy_and_nothing_else() -> None:
    own = {"dioe.types", *(f"dioe.types.{path.stem}" for path in MODULES)}
    third_party = set()
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        always = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in always
            for alias in node.names
        }
        assert "dioe.types" not in modules, f"{path.name} imports what imports it"
        third_party |= {m for m in modules if m} - own - {
            "__future__", "enum", "json", "collections.abc", "dataclasses", "pathlib", "typing",
        }  # fmt: skip
    assert third_party == {"numpy"}


def defined(path: Path) -> set[str]:
    """Public names that a module defines itself."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def test_the_package_gives_every_public_name_and_no_other() -> None:
    inner = [path for path in MODULES if path.name != "__init__.py"]
    homes = {name: path.stem for path in inner for name in defined(path)}
    assert len(homes) == sum(len(defined(path)) for path in inner)
    assert set(types.__all__) == set(homes)
    assert len(types.__all__) == len(homes)
    public = {n for n in vars(types) if not n.startswith(("_", "@"))}  # "@": pytest's rewriting
    assert public == {*homes, *(p.stem for p in inner)}
    for name, home in homes.items():
        module = importlib.import_module(f"dioe.types.{home}")
        assert getattr(types, name) is getattr(module, name)


def test_errors_are_named_by_where_they_are_imported_from() -> None:
    text = "".join(traceback.format_exception_only(InputError("it broke")))
    assert text == "dioe.types.InputError: it broke\n"
    assert {getattr(types, n).__module__ for n in types.__all__ if n.endswith("Error")} == {
        "dioe.types"
    }


def test_annotations_of_values_can_be_read() -> None:
    """Plan files are read by them."""
    for name in types.__all__:
        value = getattr(types, name)
        if dataclasses.is_dataclass(value) and isinstance(value, type):
            hints = typing.get_type_hints(value)
            assert {field.name for field in dataclasses.fields(value)} <= set(hints)
            assert pickle.loads(pickle.dumps(value)) is value


def test_a_mismatch_is_told_from_other_errors() -> None:
    assert issubclass(PlanMismatch, DioeError)
    assert not issubclass(PlanMismatch, InputError)
