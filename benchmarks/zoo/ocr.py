"""PP-OCR's text detector, recogniser and angle classifier on a scanned page.

Pre- and post-processing follow rapidocr-onnxruntime 1.4.4.
"""

from __future__ import annotations

from benchmarks.zoo.base import BenchModel, Evidence, Feed, Run, limits, only
from dioe.cli import demo_model

_LINES_ON_PAGE = 7


def _det_feeds() -> list[Feed]:
    return [{demo_model.INPUT: demo_model.demo_page().feed}]


def _det_check(run: Run) -> Evidence:
    """The page has seven lines that are wholly in the picture; the boxes cover 45 % of it."""
    page = demo_model.demo_page()
    boxes = demo_model.find_boxes(only(run({demo_model.INPUT: page.feed})))
    inside = all(x1 <= page.width + 1 and y1 <= page.height + 9 for _, _, x1, y1 in boxes)
    return Evidence(
        ok=len(boxes) == _LINES_ON_PAGE and inside,
        text=f"{len(boxes)} of {_LINES_ON_PAGE} lines found",
        figure=float(len(boxes)),
    )


DETECTOR = BenchModel(
    name="ppocr-det",
    path=demo_model.demo_model,
    feeds=_det_feeds,
    check=_det_check,
    shapes={"x": (1, 3, 640, 640)},
    source=f"{demo_model.RAPIDOCR}",
    licence="Apache-2.0",
    note="PP-OCRv4 mobile text detector (DBNet); scikit-image's scanned page",
    limits=limits(bf16=8e-2),
)
