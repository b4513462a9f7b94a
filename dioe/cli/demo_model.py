"""The demo's model, picture and answer: PP-OCR's text detector on a scanned page.

The detector is DBNet (https://arxiv.org/abs/1911.08947) as PaddleOCR trained it. It gives each
pixel a probability of being inside a line of text, shrunk towards the line's core; boxes are the
connected regions, grown back. Pre- and post-processing follow rapidocr-onnxruntime 1.4.4
(``ch_ppocr_det``, its ``config.yaml``), with upright boxes in place of rotated ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dioe.cli.fetch import Package, fetch_member
from dioe.types import Array, ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

RAPIDOCR = Package(
    "rapidocr-onnxruntime",
    "1.4.4",
    "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
)
SCIKIT_IMAGE = Package(
    "scikit-image",
    "0.26.0",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
)

INPUT = "x"
"""Name of the detector's input."""

SIDE = 640
"""Height and width, in pixels, of the picture the detector gets; a multiple of 32."""

Box: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 are the first beyond the box."""


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """A picture as the detector gets it.

    ``feed`` is float32 ``[1, 3, SIDE, SIDE]``, BGR in [-1, 1]; ``scale`` is its pixels for one of
    the picture's; ``width`` and ``height`` are the picture's part of it, the rest is white.
    """

    feed: Array
    scale: float
    width: int
    height: int


def demo_model() -> Path:
    """The ONNX file of the PP-OCRv4 detector (Apache-2.0), fetched once. Raises FetchError."""
    return fetch_member(
        RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    )


def demo_picture() -> Path:
    """The scanned page of scikit-image's data (``page.png``, 384x191), fetched once."""
    return fetch_member(
        SCIKIT_IMAGE,
        "skimage/data/page.png",
        "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
    )


def demo_page() -> Page:
    """The scanned page, ready for the detector."""
    return letterbox(open_picture(demo_picture()))


def open_picture(path: Path) -> Image:
    """A picture file as RGB. Raises ConfigError without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError(
            "reading a picture needs Pillow, which isn't installed",
            place=str(path),
            fix="install it: pip install 'dioe[demo]'",
        ) from None
    with Image.open(path) as picture:
        return picture.convert("RGB")


def letterbox(picture: Image, side: int = SIDE) -> Page:
    """``picture`` scaled to fit a white square of ``side`` pixels, at its top left."""
    from PIL import Image

    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture.resize((width, height), Image.Resampling.BILINEAR))
    return Page(normalized(square)[np.newaxis], scale, width, height)


def normalized(picture: Image) -> Array:
    """What PP-OCR's nets expect: float32 ``[3, height, width]``, BGR, 0…255 mapped to -1…1."""
    rgb = np.asarray(picture.convert("RGB"), dtype=np.float32)
    return np.ascontiguousarray((rgb[..., ::-1] / 255 - 0.5).transpose(2, 0, 1) / 0.5)


def find_boxes(
    probability: Array, *, threshold: float = 0.3, min_score: float = 0.5, unclip: float = 1.6
) -> list[Box]:
    """Upright boxes around the lines of text in a probability map, in reading order.

    ``probability`` is ``[height, width]`` (axes of length 1 before them are dropped). A region of
    pixels above ``threshold`` counts if its mean is at least ``min_score`` and it is at least 3
    pixels wide and high; it grows by area * ``unclip`` / perimeter on each side, which undoes
    the shrinking that DBNet is trained with.
    """
    height, width = probability.shape[-2:]
    chart = probability.reshape(height, width)
    boxes = []
    for x0, y0, x1, y1, score in _regions(chart, threshold):
        w, h = x1 - x0, y1 - y0
        if score >= min_score and min(w, h) >= 3:
            grow = round(w * h * unclip / (2 * (w + h)))
            left, top = max(x0 - grow, 0), max(y0 - grow, 0)
            boxes.append((left, top, min(x1 + grow, width), min(y1 + grow, height)))
    return sorted(boxes, key=lambda box: (box[1], box[0]))


def draw_boxes(page: Page, boxes: list[Box], path: Path) -> None:
    """Write the page, as the detector saw it, with ``boxes`` around its lines to a picture file."""
    from PIL import Image, ImageDraw

    rgb = (page.feed[0, ::-1].transpose(1, 2, 0) * 0.5 + 0.5) * 255
    picture = Image.fromarray(rgb.round().clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in boxes:
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(220, 30, 30), width=2)
    picture.crop((0, 0, page.width, page.height)).save(path)


def _regions(chart: Array, threshold: float) -> list[tuple[int, int, int, int, float]]:
    """4-connected regions of ``chart > threshold``: x0, y0, x1, y1 and the mean value.

    Runs of each row are joined with those they touch in the row above (union-find): the work goes
    with the number of runs, not of pixels.
    """
    edges = np.diff(np.pad(chart > threshold, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    sums = np.concatenate(
        [np.zeros((len(chart), 1)), np.cumsum(chart, axis=1, dtype=np.float64)], axis=1
    )
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    first_of_row = np.searchsorted(rows, np.arange(len(chart) + 1))
    for row in range(1, len(chart)):
        above, above_end = first_of_row[row - 1], first_of_row[row]
        for run in range(first_of_row[row], first_of_row[row + 1]):
            while above < above_end and ends[above] <= starts[run]:
                above += 1
            touching = above
            while touching < above_end and starts[touching] < ends[run]:
                parent[root(int(touching))] = root(run)
                touching += 1
    members: dict[int, list[int]] = {}
    for run in range(len(rows)):
        members.setdefault(root(run), []).append(run)
    regions = []
    for runs in members.values():
        y, x0, x1 = rows[runs], starts[runs], ends[runs]
        mean = (sums[y, x1] - sums[y, x0]).sum() / (x1 - x0).sum()
        regions.append((int(x0.min()), int(y.min()), int(x1.max()), int(y.max()) + 1, float(mean)))
    return regions
