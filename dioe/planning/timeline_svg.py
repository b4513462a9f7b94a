"""A schedule's timeline as a picture: a self-contained SVG that needs nothing else.

A row for each lane and, thinner, for each queue of links; a box for each stage, in the colour of
its target, with lines between its blocks where there is room; an axis of time. It reads on light
and on dark pages (``prefers-color-scheme``). Every box says what it is when pointed at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape

from dioe.planning.names import stage_name
from dioe.planning.schedule import Schedule
from dioe.planning.tracks import Bar, Track, tracks
from dioe.text import printable

MOST_BOXES = 3000
"""In one picture: beyond, neighbours are drawn as one box."""

_PALETTE = (
    "#3f6fa5", "#c0631a", "#3f8a3c", "#9a5f8d", "#c0474c", "#2f8482", "#94770f", "#7d6152",
)  # fmt: skip
"""Colours of targets, after Tableau 10 but darker: white on them has a contrast of 4 or more."""

_LANE, _LINK, _GAP, _PAD = 34, 16, 8, 16
"""Heights of rows, the space between them, and around the picture."""
_TITLE, _LEGEND, _AXIS = 26, 22, 30
_CHARACTER = 6.3
"""Width of a character of the small text, about."""
_LEAST_TEXT = 4
"""Characters: what is cut shorter than that tells nothing."""

_STYLE = """
.page { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e } .row { fill: #f3f4f6 }
.grid { stroke: #d1d9e0 } .link { fill: #818b98 } .on { fill: #ffffff } .cut { stroke: #ffffff }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 } .text { fill: #e6edf3 } .faint { fill: #9198a1 } .row { fill: #161b22 }
  .grid { stroke: #30363d } .link { fill: #7d8590 } .cut { stroke: #0d1117 }
}
text { font: 11px ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
.title { font-size: 14px; font-weight: 600 }
""".strip()


def timeline_svg(schedule: Schedule, *, title: str = "", width: int = 1200) -> str:
    """The timeline of one request as an SVG document, ``width`` pixels wide (at least 480).

    ``title`` stands above it, shortened to fit.
    """
    return "\n".join(_Picture(schedule, title, max(480, width)).lines()) + "\n"


class _Picture:
    def __init__(self, schedule: Schedule, title: str, width: int) -> None:
        self._schedule = schedule
        self._title = (
            title or f"{schedule.policy}: {schedule.latency_ms:.4g} ms a request, modelled"
        )
        self._width = width
        found = tracks(schedule)
        longest = max((len(track.name) for track in found), default=0)
        self._left = _PAD + min(longest * _CHARACTER + 12, width * 0.25)
        self._right = width - _PAD - 8
        self._span_ms = max(
            [schedule.latency_ms, *(bar.end_ms for track in found for bar in track.bars)]
        ) or 1.0  # fmt: skip
        self._folded = 0
        self._tracks = self._fold(found)
        targets = dict.fromkeys(
            bar.target for track in self._tracks for bar in track.bars if bar.target
        )
        self._colours = {
            target: _PALETTE[number % len(_PALETTE)] for number, target in enumerate(targets)
        }
        self._blocks = self._cuts(found)

    # --- what is drawn ---------------------------------------------------------------------------

    def _fold(self, found: Sequence[Track]) -> list[Track]:
        """Tracks of no more boxes than a picture takes: what lies next to each other becomes one,
        the closest first."""
        count = sum(len(track.bars) for track in found)
        if count <= MOST_BOXES:
            return list(found)
        room = self._span_ms / (self._right - self._left)
        folded = list(found)
        while sum(len(track.bars) for track in folded) > MOST_BOXES:
            folded = [replace(track, bars=tuple(_merged(track.bars, room))) for track in folded]
            room *= 2
        self._folded = count - sum(len(track.bars) for track in folded)
        return folded

    def _cuts(self, found: Sequence[Track]) -> Mapping[int, list[float]]:
        """Where the blocks of each stage begin, in ms, where there aren't too many."""
        stage_of = {
            block: number
            for number, stage in enumerate(self._schedule.placement.stages)
            for block in stage.blocks
        }
        cuts: dict[int, list[float]] = {}
        if self._folded or len(stage_of) + sum(len(t.bars) for t in found) > MOST_BOXES:
            return cuts
        for block in self._schedule.blocks:
            cuts.setdefault(stage_of[block.block], []).append(block.start_ms)
        return cuts

    def _x(self, time_ms: float) -> float:
        return self._left + time_ms / self._span_ms * (self._right - self._left)

    # --- the document ----------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        legend = self._legend()
        top = _PAD + _TITLE + _LEGEND * len(legend) + _GAP
        heights = [_LANE if track.device else _LINK for track in self._tracks]
        bottom = top + sum(heights) + _GAP * len(heights)
        height = bottom + _AXIS + (_LEGEND if self._folded else 0) + _PAD / 2
        name = _text(self._title)
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self._width}" height="{height:g}" '
            f'viewBox="0 0 {self._width} {height:g}" role="img" aria-label="{name}">'
        )
        yield f"<title>{name}</title>"
        yield f"<style>{_STYLE}</style>"
        yield '<rect class="page" width="100%" height="100%"/>'
        shown = _cut(self._title, (self._width - 2 * _PAD) / 8)
        yield f'<text class="text title" x="{_PAD}" y="{_PAD + 14}">{_text(shown)}</text>'
        for number, row in enumerate(legend):
            yield from self._legend_row(row, _PAD + _TITLE + _LEGEND * number)
        y = float(top)
        tops = []
        for track, row_height in zip(self._tracks, heights, strict=True):
            tops.append(y)
            yield from self._background(track, y, row_height)
            y += row_height + _GAP
        yield from self._axis(top, bottom)
        for track, at, row_height in zip(self._tracks, tops, heights, strict=True):
            for bar in track.bars:
                yield self._box(bar, at, row_height)
        if self._folded:
            note = f"{self._folded} more boxes are drawn as parts of these"
            yield f'<text class="faint" x="{_PAD}" y="{height - _PAD / 2:g}">{note}</text>'
        yield "</svg>"

    def _background(self, track: Track, y: float, height: float) -> Iterator[str]:
        wide = self._right - self._left
        yield (
            f'<rect class="row" x="{self._left:.1f}" y="{y:g}" width="{wide:.1f}" '
            f'height="{height:g}"/>'
        )
        name = _text(_cut(track.name, (self._left - _PAD - 6) / _CHARACTER))
        kind = "text" if track.device else "faint"
        yield (
            f'<text class="{kind}" x="{self._left - 8:.1f}" y="{y + height / 2 + 4:g}" '
            f'text-anchor="end">{name}</text>'
        )

    def _box(self, bar: Bar, y: float, height: float) -> str:
        left, right = self._x(bar.start_ms), self._x(bar.end_ms)
        wide = max(right - left, 0.6)
        number = stage_name(bar.stage) if bar.target else ""
        about = f"{number} {bar.name}: {bar.start_ms:.4g} to {bar.end_ms:.4g} ms"
        if bar.target:
            about += f", {bar.target}"
        fill = f'fill="{self._colours[bar.target]}"' if bar.target else 'class="link"'
        parts = [
            f"<g><title>{_text(about.strip())}</title>",
            f'<rect {fill} x="{left:.2f}" y="{y:g}" width="{wide:.2f}" height="{height:g}" '
            f'rx="{min(2.0, wide / 4):.2g}"/>',
        ]
        parts += self._lines_between_blocks(bar, left, right, y, height)
        room = (wide - 6) / _CHARACTER
        names = (bar.name, bar.name.partition(" (")[0], number)
        name = next((each for each in names if len(each) <= room), "")
        if bar.target and name:
            at = f'x="{left + 3:.1f}" y="{y + height / 2 + 4:g}"'
            parts.append(f'<text class="on" {at}>{_text(name)}</text>')
        return "".join((*parts, "</g>"))

    def _lines_between_blocks(
        self, bar: Bar, left: float, right: float, y: float, height: float
    ) -> Iterator[str]:
        starts = self._blocks.get(bar.stage, [])[1:]
        if not starts or (right - left) / len(starts) < 4:
            return
        marks = "".join(f"M{self._x(ms):.2f} {y + height - 6:g}v6" for ms in starts)
        yield f'<path class="cut" stroke-width="0.8" d="{marks}"/>'

    def _axis(self, top: float, bottom: float) -> Iterator[str]:
        step = tick_step(self._span_ms, most=max(2, int((self._right - self._left) // 90)))
        digits = max(0, -math.floor(math.log10(step)))
        for number in range(int(self._span_ms / step + 1e-9) + 1):
            x = self._x(number * step)
            label = f"{number * step:.{digits}f}" + (" ms" if not number else "")
            yield (
                f'<path class="grid" d="M{x:.1f} {top - 4:g}V{bottom:g}"/>'
                f'<text class="faint" x="{x:.1f}" y="{bottom + 14:g}" text-anchor="middle">'
                f"{label}</text>"
            )

    # --- the legend ------------------------------------------------------------------------------

    def _legend(self) -> list[list[tuple[str, str]]]:
        """Targets and their colours, in as many rows as they take."""
        rows: list[list[tuple[str, str]]] = [[]]
        used = 0.0
        for target, colour in self._colours.items():
            wide = _legend_width(target)
            if rows[-1] and used + wide > self._width - 2 * _PAD:
                rows.append([])
                used = 0.0
            rows[-1].append((target, colour))
            used += wide
        return rows

    def _legend_row(self, row: Sequence[tuple[str, str]], y: float) -> Iterator[str]:
        x = float(_PAD)
        for target, colour in row:
            yield (
                f'<rect fill="{colour}" x="{x:.1f}" y="{y + 2:g}" width="12" height="12" rx="2"/>'
                f'<text class="text" x="{x + 17:.1f}" y="{y + 12:g}">{_text(target)}</text>'
            )
            x += _legend_width(target)


def tick_step(span: float, most: int) -> float:
    """The distance of ticks, 1, 2 or 5 times a power of 10, so that ``span`` has ``most`` of them
    at most."""
    exact = span / most
    power = 10.0 ** math.floor(math.log10(exact))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= exact * (1 - 1e-9))


def _merged(bars: Sequence[Bar], room: float) -> Iterator[Bar]:
    """Neighbours of one target that are narrower than ``room`` and as near, as one; in ms."""
    last: Bar | None = None
    for bar in bars:
        if (
            last is not None
            and bar.target == last.target
            and bar.start_ms - last.end_ms <= room
            and min(bar.end_ms - bar.start_ms, last.end_ms - last.start_ms) <= room
        ):
            name = last.name.partition(" … ")[0] + f" … {bar.name}"
            last = replace(last, name=name, end_ms=max(last.end_ms, bar.end_ms))
            continue
        if last is not None:
            yield last
        last = bar
    if last is not None:
        yield last


def _legend_width(target: str) -> float:
    return 17 + len(target) * _CHARACTER + 18


def _cut(text: str, characters: float) -> str:
    """As much of a text as there is room for; empty where that tells nothing."""
    text = printable(text)
    if len(text) <= characters:
        return text
    return "" if characters < _LEAST_TEXT else text[: int(characters) - 1] + "…"


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
