from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from dioe.cli.demo_model import (
    SIDE,
    Box,
    draw_boxes,
    find_boxes,
    letterbox,
    normalized,
    open_picture,
)
from dioe.types import Array

RNG = np.random.default_rng(7)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_normalized_is_bgr_from_minus_one_to_one() -> None:
    one = Image.new("RGB", (1, 1), (255, 0, 102))
    np.testing.assert_allclose(normalized(one)[:, 0, 0], [-0.2, -1, 1], atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(384, 191), (191, 384), (2000, 10), (640, 640)])
def test_letterbox_keeps_proportions_and_pads_with_white(width: int, height: int) -> None:
    page = letterbox(picture(width, height))
    assert page.feed.shape == (1, 3, SIDE, SIDE)
    assert page.feed.dtype == np.float32
    assert max(page.width, page.height) == SIDE
    assert page.width == max(1, round(width * page.scale))
    assert np.all(page.feed[..., page.height :, :] == 1)
    assert np.all(page.feed[..., :, page.width :] == 1)
    assert page.feed[..., : page.height, : page.width].std() > 0.1


def rectangles(shape: tuple[int, int], boxes: list[Box], value: float = 0.9) -> Array:
    chart = RNG.uniform(0, 0.2, shape).astype(np.float32)
    for x0, y0, x1, y1 in boxes:
        chart[y0:y1, x0:x1] = value
    return chart


def test_lines_are_found_in_reading_order_and_grown_back() -> None:
    drawn = [(10, 40, 90, 46), (10, 8, 50, 16)]
    found = find_boxes(rectangles((64, 128), drawn), unclip=1.5)
    # 40x8: 320 * 1.5 / 96 = 5; 80x6: 480 * 1.5 / 172 = 4.2
    assert found == [(5, 3, 55, 21), (6, 36, 94, 50)]


def test_boxes_stay_on_the_page_and_weak_or_thin_ones_are_dropped() -> None:
    strong, thin = (0, 0, 30, 8), (40, 40, 90, 42)
    chart = rectangles((64, 128), [strong, thin])
    chart[20:30, 60:100] = 0.4  # above the threshold, below the score
    assert find_boxes(chart[np.newaxis, np.newaxis]) == [(0, 0, 35, 13)]


def test_a_blank_page_has_no_lines() -> None:
    assert find_boxes(rectangles((32, 32), [])) == []


def flood(mask: Array) -> set[Box]:
    """Bounding boxes of 4-connected regions, the slow way."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    boxes = set()
    while left:
        region, frontier = set(), {left.pop()}
        while frontier:
            region |= frontier
            near = {
                (y + b, x + a) for y, x in frontier for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))
            }
            frontier = near & left
            left -= frontier
        ys, xs = zip(*region, strict=True)
        boxes.add((min(xs), min(ys), max(xs) + 1, max(ys) + 1))
    return boxes


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 16), st.integers(1, 16))))
def test_regions_are_those_of_a_flood_fill(mask: Array) -> None:
    found = find_boxes(mask.astype(np.float32), unclip=0)
    big = {box for box in flood(mask) if min(box[2] - box[0], box[3] - box[1]) >= 3}
    assert set(found) == big


def test_boxes_are_drawn_on_the_page(tmp_path: Path) -> None:
    page = letterbox(Image.new("RGB", (320, 160), "white"))
    draw_boxes(page, [(10, 20, 110, 60)], tmp_path / "boxes.png")
    drawn = np.asarray(open_picture(tmp_path / "boxes.png"))
    assert drawn.shape == (page.height, page.width, 3)
    ys, xs = np.nonzero((drawn != 255).any(axis=-1))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (10, 20, 109, 59)


def test_drawing_shows_the_page_itself(tmp_path: Path) -> None:
    source = picture(SIDE, SIDE)
    page = letterbox(source)
    draw_boxes(page, [], tmp_path / "page.png")
    np.testing.assert_array_equal(
        np.asarray(open_picture(tmp_path / "page.png")), np.asarray(source)
    )
