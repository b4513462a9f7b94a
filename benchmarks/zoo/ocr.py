"""PP-OCR's text detector, recogniser and angle classifier, on a scanned page and drawn lines.

Pre- and post-processing follow rapidocr-onnxruntime 1.4.4 (``ch_ppocr_rec``, ``ch_ppocr_cls``);
the detector's is the demo's.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, limits, only
from dioe.cli import demo_model
from dioe.cli.fetch import fetch_member
from dioe.types import Array, ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

_HEIGHT, _REC_WIDTH, _CLS_WIDTH = 48, 320, 192

_LINES_ON_PAGE = 7  # those that are wholly in the picture; an eighth is cut off
_HEADING = "Region-based segmentation"
_HEADING_BOX = (5, 11, 293, 34)  # of the page, as the detector finds it

_DRAWN = (
    "Invoice No. 20240917",
    "Total: $1,284.50",
    "placed by measured cost",
    "The quick brown fox",
    "Dynamic inference",
    "Gate 42, platform 7",
    "OPEN 9:30 - 18:00",
)


def _member(name: str, sha256: str) -> Path:
    return fetch_member(demo_model.RAPIDOCR, f"rapidocr_onnxruntime/models/{name}", sha256)


def _rec_path() -> Path:
    return _member(
        "ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    )


def _cls_path() -> Path:
    return _member(
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    )


def _lines() -> list[tuple[Image, str]]:
    """Pictures of single lines of text and what they say: the page's heading, then drawn ones."""
    page = demo_model.open_picture(demo_model.demo_picture())
    return [(page.crop(_HEADING_BOX), _HEADING), *((_draw(text), text) for text in _DRAWN)]


def _draw(text: str) -> Image:
    """``text`` in dark grey on white, 48 pixels high, in the font that Pillow carries."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=32)
    picture = Image.new("RGB", (math.ceil(font.getbbox(text)[2]) + 16, _HEIGHT), "white")
    place = (8, _HEIGHT // 2)
    ImageDraw.Draw(picture).text(place, text, fill=(20, 20, 20), font=font, anchor="lm")
    return picture


def _strip(picture: Image, width: int) -> Feed:
    """One line as both nets expect it: float32 ``[1, 3, 48, width]``, scaled, padded with grey."""
    from PIL import Image

    scaled = min(width, math.ceil(_HEIGHT * picture.width / picture.height))
    strip = np.zeros((1, 3, _HEIGHT, width), dtype=np.float32)
    resized = picture.resize((scaled, _HEIGHT), Image.Resampling.BILINEAR)
    strip[0, :, :, :scaled] = demo_model.normalized(resized)
    return {"x": strip}


@cache
def _characters() -> list[str]:
    """The recogniser's classes: the CTC blank, the characters in its metadata, the space."""
    import onnx

    properties = onnx.load(_rec_path(), load_external_data=False).metadata_props
    text = next((prop.value for prop in properties if prop.key == "character"), None)
    if text is None:
        raise ModelError("the recogniser's metadata has no 'character'", place=str(_rec_path()))
    return ["", *text.splitlines(), " "]


def ctc_text(probabilities: Array, characters: list[str]) -> str:
    """Greedy CTC decoding of ``[steps, classes]``: repeats merged, class 0 is the blank."""
    best = probabilities.argmax(axis=1)
    kept = best[np.concatenate([[True], best[1:] != best[:-1]]) & (best != 0)]
    return "".join(characters[index] for index in kept).strip()


def _det_feeds() -> list[Feed]:
    return [{demo_model.INPUT: demo_model.demo_page().feed}]


def _det_check(run: Run) -> Evidence:
    page = demo_model.demo_page()
    boxes = demo_model.find_boxes(only(run({demo_model.INPUT: page.feed})))
    on_page = sum(x1 <= page.width and y0 < page.height for _, y0, x1, _ in boxes)
    return Evidence(
        ok=on_page == len(boxes) == _LINES_ON_PAGE,
        text=f"{on_page}/{_LINES_ON_PAGE} lines of the page found",
        figure=on_page / _LINES_ON_PAGE,
    )


def _rec_feeds() -> list[Feed]:
    return [_strip(picture, _REC_WIDTH) for picture, _ in _lines()]


def _rec_check(run: Run) -> Evidence:
    lines = _lines()
    read = [ctc_text(only(run(_strip(p, _REC_WIDTH)))[0], _characters()) for p, _ in lines]
    right = sum(text == said for text, (_, said) in zip(read, lines, strict=True))
    return Evidence(
        ok=right == len(lines),
        text=f"{right}/{len(lines)} lines read exactly; the page's: {read[0]!r}",
        figure=right / len(lines),
    )


def _upright_and_turned() -> list[tuple[Feed, int]]:
    """Each line upright (class 0) and turned by half a circle (class 1)."""
    from PIL import Image

    turn = Image.Transpose.ROTATE_180
    pictures = [picture for picture, _ in _lines()]
    upright = [(_strip(picture, _CLS_WIDTH), 0) for picture in pictures]
    return upright + [(_strip(p.transpose(turn), _CLS_WIDTH), 1) for p in pictures]


def _cls_feeds() -> list[Feed]:
    return [feed for feed, _ in _upright_and_turned()]


def _cls_check(run: Run) -> Evidence:
    samples = _upright_and_turned()
    right = sum(int(only(run(feed))[0].argmax()) == angle for feed, angle in samples)
    return Evidence(
        ok=right == len(samples),
        text=f"{right}/{len(samples)} lines told upright from upside down",
        figure=right / len(samples),
    )


DETECTOR = BenchModel(
    name="ppocr-det",
    path=demo_model.demo_model,
    feeds=_det_feeds,
    check=_det_check,
    shapes={"x": (1, 3, demo_model.SIDE, demo_model.SIDE)},
    source=f"{demo_model.RAPIDOCR}",
    licence="Apache-2.0",
    note="PP-OCRv4 text detector (DBNet); scikit-image's scanned page",
    limits=limits(bf16=5e-2),
)

RECOGNISER = BenchModel(
    name="ppocr-rec",
    path=_rec_path,
    feeds=_rec_feeds,
    check=_rec_check,
    shapes={"x": (1, 3, _HEIGHT, _REC_WIDTH)},
    source=f"{demo_model.RAPIDOCR}",
    licence="Apache-2.0",
    note="PP-OCRv4 text recogniser (convolutions, attention, CTC); a line of the page, drawn lines",
    limits=limits(bf16=3e-1),
)

CLASSIFIER = BenchModel(
    name="ppocr-cls",
    path=_cls_path,
    feeds=_cls_feeds,
    check=_cls_check,
    shapes={"x": (1, 3, _HEIGHT, _CLS_WIDTH)},
    source=f"{demo_model.RAPIDOCR}",
    licence="Apache-2.0",
    note="PP-OCR text angle classifier; lines upright and upside down",
    limits=limits(bf16=3e-3),
)
