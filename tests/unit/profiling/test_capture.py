"""Activations of one run: right values, bounded memory and disk, nothing left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

from dioe.graph import Model, OpGraph
from dioe.profiling import Activations, capture
from dioe.profiling import capture as capture_module  # the function hides the module of its name
from dioe.types import BackendError, ConfigError, Feeds, InputError, Resources, Value
from tests.toys.backend import ToyBackend, ToyContext
from tests.toys.models import parse, weights, with_weights

MODULE = sys.modules[capture_module.__module__]
RNG = np.random.default_rng(3)
X = RNG.standard_normal((2, 6)).astype(np.float32)


def branched() -> onnx.ModelProto:
    """A trunk, an integer side, an ``If`` that captures, a ``Loop`` and a weight."""
    model = parse("""
        g (float[N, 6] x, int64[M] pick) => (float[N, 6] y, float[N, K] z) {
            a = MatMul(x, w)
            h = Tanh(a)
            s = ReduceSum <keepdims: int = 0> (h)
            zero = Constant <value: tensor = float {0.0}> ()
            positive = Greater(s, zero)
            y = If (positive) <
                then_branch = t () => (float[N, 6] p) { p = Exp(h) },
                else_branch = e () => (float[N, 6] q) { q = Neg(h) }
            >
            count = Constant <value: tensor = int64 {3}> ()
            yes = Constant <value: tensor = bool {1}> ()
            twice = Loop (count, yes, h) <
                body = b (int64 i, bool c, float[N, 6] v) => (bool c2, float[N, 6] v2) {
                    c2 = Identity(c)
                    v2 = Add(v, h)
                }
            >
            next = Mod(pick, three)
            z = Gather <axis: int = 1> (twice, next)
        }
    """)
    return with_weights(model, w=weights(6, 6, seed=7), three=np.array(3, np.int64))


PICK = np.array([5, 1, 4], np.int64)
FEEDS: Feeds = {"x": X, "pick": PICK}


def expected() -> dict[str, np.ndarray]:
    h = np.tanh(X @ weights(6, 6, seed=7))
    twice = 4 * h
    return {
        "a": X @ weights(6, 6, seed=7),
        "h": h,
        "s": h.sum(),
        "positive": h.sum() > 0,
        "y": np.exp(h) if h.sum() > 0 else -h,
        "twice": twice,
        "next": PICK % 3,
        "z": twice[:, PICK % 3],
    }


@pytest.fixture
def graph() -> OpGraph:
    return OpGraph.build(Model.load(branched()), {"x": X.shape, "pick": PICK.shape})


@pytest.fixture
def backend() -> ToyBackend:
    return ToyBackend()


@pytest.fixture
def context(backend: ToyBackend) -> Iterator[ToyContext]:
    opened = backend.open("cpu", Resources())
    yield opened
    assert backend.count("compile") == backend.count("close executable")
    opened.close()


def test_values_are_those_of_the_run(graph: OpGraph, context: ToyContext) -> None:
    with capture(graph, expected(), FEEDS, context) as found:
        assert set(found) == set(expected())
        assert not found.missing
        for name, value in expected().items():
            assert found[name].dtype == graph.values[name].dtype
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_inputs_and_constants_are_handed_out(
    graph: OpGraph, context: ToyContext, backend: ToyBackend
) -> None:
    with capture(graph, ["x", "w", "count"], FEEDS, context, limit_bytes=0) as found:
        assert found["x"] is X
        np.testing.assert_array_equal(found["w"], weights(6, 6, seed=7))
        assert found["count"] == 3
    assert backend.count("compile") == 0


def test_only_what_leads_to_a_value_runs(
    graph: OpGraph, context: ToyContext, backend: ToyBackend
) -> None:
    with capture(graph, ["next"], FEEDS, context):
        assert backend.received == [{"pick": PICK}]


def test_runs_are_bounded_in_memory(
    graph: OpGraph,
    context: ToyContext,
    backend: ToyBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MODULE, "_CHUNK_BYTES", X.nbytes * 2)
    with capture(graph, ["twice", "a", "h", "y"], FEEDS, context) as found:
        assert backend.count("run") == 3  # two of known size; the loop's and the branch's are open
        for name in found:
            np.testing.assert_allclose(found[name], expected()[name], rtol=1e-5, atol=1e-6)


def test_first_come_first_kept_below_the_limit(graph: OpGraph, context: ToyContext) -> None:
    limit = X.nbytes + PICK.nbytes
    with capture(graph, ["h", "a", "next", "s"], FEEDS, context, limit_bytes=limit) as found:
        assert set(found) == {"h", "next"}
        assert set(found.missing) == {"a", "s"}
        assert found.nbytes == limit
        assert str(X.nbytes) in found.missing["a"]


def test_sizes_unknown_before_count_when_known(context: ToyContext) -> None:
    model = parse("g (float[8] x) => (int64[A, B] y, float[8] z) { y = NonZero(x) z = Neg(x) }")
    graph = OpGraph.build(Model.load(model))
    feeds: Feeds = {"x": np.arange(8, dtype=np.float32)}
    assert graph.values["y"].nbytes is None
    with capture(graph, ["z", "y"], feeds, context, limit_bytes=50) as found:
        assert set(found) == {"z"}
        assert "56 bytes" in found.missing["y"]
    with capture(graph, ["z", "y"], feeds, context) as found:
        assert found["y"].tolist() == [[1, 2, 3, 4, 5, 6, 7]]


def test_strings_and_sequences_are_left_out(context: ToyContext) -> None:
    model = parse("""
        g (float[4] x, string[2] t) => (float[4] y) {
            n = Neg(x)
            s = SequenceConstruct(x, n)
            u = Identity(t)
            y = ConcatFromSequence <axis: int = 0> (s)
        }
    """)
    graph = OpGraph.build(Model.load(model))
    x = RNG.standard_normal(4).astype(np.float32)
    feeds: dict[str, Value] = {"x": x, "t": np.array(["a", "b"], dtype=object)}
    with capture(graph, ["s", "u", "t", "n"], feeds, context) as found:
        assert set(found) == {"n"}
        assert set(found.missing) == {"s", "u", "t"}
        assert all("not kept" in reason for reason in found.missing.values())


# --- files ------------------------------------------------------------------------------------


BIG = RNG.standard_normal((64, 64)).astype(np.float32)


def wide() -> OpGraph:
    model = parse("g (float[64, 64] x) => (float[64, 64] y) { h = Tanh(x) y = Neg(h) }")
    return OpGraph.build(Model.load(model))


def folders(parent: Path) -> list[Path]:
    return list(parent.iterdir())


def test_large_arrays_are_mapped_until_closed(context: ToyContext, tmp_path: Path) -> None:
    found = capture(wide(), ["h", "y"], {"x": BIG}, context, folder=tmp_path)
    (folder,) = folders(tmp_path)
    assert sorted(file.suffix for file in folder.iterdir()) == [".npy", ".npy"]
    h = found["h"]
    assert isinstance(h.base, np.memmap)
    h[0, 0] = 7.0  # copied on writing: the file stays as it was
    assert np.load(folder / "0.npy")[0, 0] == np.tanh(BIG[0, 0])
    found.close()
    found.close()
    assert not folders(tmp_path)
    assert not found
    np.testing.assert_array_equal(h[1:], np.tanh(BIG[1:]))  # still mapped


def test_forgotten_ones_leave_nothing(context: ToyContext, tmp_path: Path) -> None:
    found = capture(wide(), ["h"], {"x": BIG}, context, folder=tmp_path)
    assert folders(tmp_path)
    del found
    gc.collect()
    assert not folders(tmp_path)


def test_the_end_of_the_interpreter_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import numpy as np, pathlib, tempfile
from dioe.profiling import Activations
kept = Activations(pathlib.Path(tempfile.mkdtemp(dir={str(tmp_path)!r})))
kept.write("a", np.ones((64, 64)))
print(len(list(pathlib.Path({str(tmp_path)!r}).iterdir())))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert not folders(tmp_path)


@pytest.mark.parametrize("error", [BackendError("broken"), KeyboardInterrupt()])
def test_a_failing_run_leaves_nothing(
    error: BaseException, backend: ToyBackend, context: ToyContext, tmp_path: Path
) -> None:
    def fail(outputs: dict[str, Value]) -> dict[str, Value]:
        raise error

    backend.during = fail
    with pytest.raises(type(error)):
        capture(wide(), ["h"], {"x": BIG}, context, folder=tmp_path)
    assert not folders(tmp_path)


def test_a_full_disk_leaves_values_out(
    context: ToyContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = np.save

    def save(file: Path, array: np.ndarray, **settings: bool) -> None:
        real(file, array, **settings)
        if file.name == "1.npy":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", save)
    with capture(wide(), ["h", "y"], {"x": BIG}, context, folder=tmp_path) as found:
        assert set(found) == {"h"}
        assert "No space left" in found.missing["y"]
        assert [f.name for f in folders(tmp_path)[0].iterdir()] == ["0.npy"]


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.int4, np.bool_, np.float64])
@pytest.mark.parametrize("shape", [(), (0, 3), (5, 7), (90, 100)])
def test_any_dtype_and_shape(dtype: type, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = (RNG.standard_normal(shape) * 3).astype(np.dtype(dtype))
    with Activations(tmp_path / "own") as kept:
        (tmp_path / "own").mkdir()
        kept.write("a", array)
        assert (kept["a"].dtype, kept["a"].shape) == (array.dtype, shape)
        np.testing.assert_array_equal(kept["a"], array)


def test_a_copy_of_a_backends_memory_is_kept(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3).T
    kept = Activations(tmp_path)
    kept.write("a", array)
    array[...] = 0
    np.testing.assert_array_equal(kept["a"], np.arange(6.0).reshape(2, 3).T)
    kept.close()


# --- mistakes ---------------------------------------------------------------------------------


def test_what_the_model_does_not_have(graph: OpGraph, context: ToyContext) -> None:
    with pytest.raises(InputError, match="no value 'nothing'"):
        capture(graph, ["h", "nothing"], FEEDS, context)
    with pytest.raises(InputError, match="'pick' is not fed"):
        capture(graph, ["pick"], {"x": X}, context)
    with pytest.raises(InputError, match="'pick' is not fed"):
        capture(graph, ["h", "z"], {"x": X}, context)


def test_no_folder(context: ToyContext, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder for activations"):
        capture(wide(), ["h"], {"x": BIG}, context, folder=tmp_path / "absent")
