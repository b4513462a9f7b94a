"""Pipelines of real models over two devices, one with a memory of its own: a GPU in software where
there is one, else a modelled NPU for what nobody looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import dioe
from benchmarks.zoo import ocr
from dioe.cli import demo_model
from dioe.runtime import Runtime
from dioe.types import Array, Backend, Basis, Value
from dioe_null import NPU, NullBackend, RealClock
from tests.backend.software_gpu import missing, software_gpu
from tests.system.conftest import GetModel
from tests.toys.backend import registry_of

WEBGPU, NULL = "gpu:0/onnxruntime.webgpu", "npu:0/null"
HEADING = "Region-based segmentation"
HEIGHT, MOST_WIDTH = 48, 960

UseDevices: TypeAlias = Callable[[], str]


@pytest.fixture
def use_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UseDevices]:
    """A runtime with a modelled NPU, and the software GPU where there is one, whose name is given;
    else empty."""
    monkeypatch.setenv("DIOE_CACHE_DIR", str(tmp_path / "cache"))
    with ExitStack() as stack:

        def use() -> str:
            backends: list[Backend] = [NullBackend([NPU], RealClock())]
            gpu = "" if missing() else WEBGPU
            if gpu:
                backends.append(stack.enter_context(software_gpu(tmp_path)))
            runtime = Runtime(registry_of(*backends, installed=("onnxruntime", "openvino")))
            stack.callback(runtime.close)
            monkeypatch.setattr(Runtime, "_current", runtime)
            return gpu

        yield use
        monkeypatch.undo()


def array(value: Value) -> Array:
    assert isinstance(value, np.ndarray)
    return value


# --- reading a page -------------------------------------------------------------------------------


def crop(page: Array, chart: Array) -> dict[str, Array]:
    """The lines of a page from the top down, each scaled to the recogniser's height."""
    from PIL import Image

    rgb = ((page[0, ::-1].transpose(1, 2, 0) * 0.5 + 0.5) * 255).round().astype(np.uint8)
    lines = []
    for x0, y0, x1, y1 in demo_model.find_boxes(chart):
        line = Image.fromarray(np.ascontiguousarray(rgb[y0:y1, x0:x1]))
        width = min(MOST_WIDTH, round(HEIGHT * line.width / line.height))
        lines.append(demo_model.normalized(line.resize((width, HEIGHT), Image.Resampling.BILINEAR)))
    strips = np.zeros((len(lines), 3, HEIGHT, MOST_WIDTH), np.float32)
    for strip, line in zip(strips, lines, strict=True):
        strip[:, :, : line.shape[2]] = line
    return {"strips": strips, "count": np.array(len(lines))}


def spell(probabilities: Array) -> list[str]:
    return [ocr.ctc_text(each, ocr._characters()) for each in probabilities]


def test_a_page_is_read_over_two_devices(
    real_model: GetModel, use_devices: UseDevices, tmp_path: Path
) -> None:
    pytest.importorskip("PIL")
    det, rec = real_model("ppocr-det").path, real_model("ppocr-rec").path
    chart, softmax = (
        onnx.load(m, load_external_data=False).graph.output[0].name for m in (det, rec)
    )
    reader = dioe.Pipeline(
        {"det": det, "crop": crop, "rec": rec, "spell": spell, "fewest": det},
        [
            (f"det.{chart}", "crop.chart"),
            ("crop.strips", "rec.x"),
            (f"rec.{softmax}", "spell.probabilities"),
        ],
    )
    page = demo_model.demo_page().feed
    half = page.copy()
    half[:, :, 110:] = 1.0  # white below the first lines
    gpu = use_devices()
    # the rest on the CPU: as a whole a model isn't tried on a device a thousand times slower then
    second = {"det.p2o.Sigmoid.0": gpu, "rec.p2o.Transpose.8": gpu, "det": "cpu", "rec": "cpu"}
    with dioe.compile(
        reader, sample_inputs={"det.x": page, "page": page, "fewest.x": page},
        pins={**(second if gpu else {}), "fewest": NULL}, tuning_budget_s=8.0,
        max_relative_l2=1e-3, tune_shapes=False,
    ) as session:  # fmt: skip
        plan = session.plan
        feed = {"det.x": page, "page": page, "fewest.x": page}
        outputs = session.run(feed)
        text = outputs["spell.out"]
        assert isinstance(text, list)
        assert len(text) == outputs["crop.count"] == 7
        assert text[0] == HEADING
        fewer = session.run({**feed, "det.x": half, "page": half}, ["out", "count"])
        count = int(array(fewer["count"]))
        assert 0 < count < 7
        assert fewer["out"] == text[:count]
        moved = {name: found for name, found in session.transfers.items() if found}
    assert plan.where("fewest").startswith(NULL)
    assert plan.basis is Basis.MODELLED
    assert any("fewest" in note for note in plan.notes)
    assert plan.relative_l2 is not None
    assert plan.relative_l2 <= 1e-3
    if gpu:
        assert {"det", "rec"} <= moved.keys()
        for node, op in (("det", "p2o.Sigmoid.0"), ("rec", "p2o.Transpose.8")):
            (stage,) = [s for s in plan.models[node].plans[0].stages if op in s.ops]
            assert stage.target.device == "gpu:0"
            assert len(plan.models[node].plans[0].stages) > 1
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    with dioe.compile(reader, plan=path) as session:
        assert session.run(feed, ["spell.out"])["spell.out"] == text


# --- telling what is in a picture -----------------------------------------------------------------

WORDS = ("a", "the", "small", "large", "dog", "bird", "house", "river", "in", "on", ".", "and")
END, WIDTH = WORDS.index("."), 32


def decoder(features: int) -> onnx.ModelProto:
    """One step of a recurrent net with random weights, which says word by word what it is shown."""
    rng = np.random.default_rng(5)
    tensors = {
        "look": rng.standard_normal((features, WIDTH)) / np.sqrt(features) * 2,
        "words": rng.standard_normal((len(WORDS), WIDTH)),
        "mix": rng.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH),
        "say": rng.standard_normal((WIDTH, len(WORDS))),
    }
    node, info = helper.make_node, helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            node("MatMul", ["seen", "look"], ["a"], name="a"),
            node("Gather", ["words", "word"], ["b"], name="b"),
            node("MatMul", ["memory", "mix"], ["c"], name="c"),
            node("Sum", ["a", "b", "c"], ["d"], name="d"),
            node("Tanh", ["d"], ["next"], name="e"),
            node("MatMul", ["next", "say"], ["scores"], name="f"),
        ],
        "decoder",
        [
            info("seen", TensorProto.FLOAT, [1, features]),
            info("word", TensorProto.INT64, [1]),
            info("memory", TensorProto.FLOAT, [1, WIDTH]),
        ],
        [
            info("scores", TensorProto.FLOAT, [1, len(WORDS)]),
            info("next", TensorProto.FLOAT, [1, WIDTH]),
        ],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return made


def tell(step: Any, seen: Array, most: int = 8) -> dict[str, Any]:
    """Greedily, until the sentence ends."""
    word, memory = 0, np.zeros((1, WIDTH), np.float32)
    words: list[str] = []
    scores: list[Array] = []
    while len(words) < most and word != END:
        outputs = step({"seen": seen, "word": np.array([word]), "memory": memory})
        memory, word = outputs["next"], int(outputs["scores"].argmax())
        words.append(WORDS[word])
        scores.append(outputs["scores"])
    return {"words": words, "scores": np.concatenate(scores)}


def sentence(words: list[str]) -> str:
    return " ".join(words)


def test_a_picture_is_told_over_cpu_webgpu_and_a_modelled_npu(
    real_model: GetModel, use_devices: UseDevices
) -> None:
    encoder = real_model("efficientnet-lite0")
    judge = helper.make_model(
        helper.make_graph(
            [helper.make_node("Softmax", ["logits"], ["likely"], name="judge")],
            "judge",
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])],
            [helper.make_tensor_value_info("likely", TensorProto.FLOAT, [1, 1000])],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    captions = dioe.Pipeline(
        {
            "encode": encoder.path, "tell": tell, "decode": decoder(1000), "sentence": sentence,
            "judge": judge,
        },
        [
            ("encode.logits", "tell.seen"),
            ("tell.words", "sentence.words"),
            ("encode.logits", "judge.logits"),
        ],
        calls={"tell.step": "decode"},
    )  # fmt: skip
    gpu = use_devices()
    pins = {"judge": NULL, **({"decode.f": gpu, "decode": "cpu"} if gpu else {})}
    image = {"image": encoder.feeds[0]["image"]}
    with dioe.compile(
        captions, sample_inputs=image, pins=pins, tuning_budget_s=12.0, max_relative_l2=1e-3
    ) as session:
        plan = session.plan
        told = [session.run({"image": feed["image"]}) for feed in encoder.feeds[:3]]
    decode = ReferenceEvaluator(decoder(1000))
    for feed, outputs in zip(encoder.feeds[:3], told, strict=True):
        (answer,) = encoder.answers([{"image": feed["image"]}])
        by_hand = tell(
            lambda f: dict(zip(("scores", "next"), decode.run(None, f), strict=True)),
            answer["logits"],
        )
        assert outputs["sentence.out"] == sentence(by_hand["words"])
        np.testing.assert_allclose(
            array(outputs["tell.scores"]), by_hand["scores"], rtol=1e-2, atol=1e-3
        )
        assert array(outputs["judge.likely"]).shape == (1, 1000)
    assert plan.called == ("decode",)
    assert plan.where("judge") == f"{NULL}/fp32"
    assert plan.where("encode").startswith("cpu/")
    devices = {s.target.device for s in plan.models["decode"].plans[0].stages}
    assert ("gpu:0" in devices) == bool(gpu)
    costs = plan.costs
    assert costs["judge"] is not None
    assert costs["judge"].basis is Basis.MODELLED
    assert costs["decode"] is not None
    assert costs["tell"] is not None
    text = plan.explain()
    assert "judge: npu:0/null/fp32" in text
    assert "weren't compared: those of judge" in text
