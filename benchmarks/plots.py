"""Plots of the report as SVG, written out by hand: bars side by side, and lines over named places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_WIDTH: Final = 760
_BAR, _GAP, _LABELS = 22, 26, 170
_HEIGHT, _LEFT, _TOP, _BOTTOM = 320, 70, 50, 60
_COLOURS: Final = ("#2a6fbb", "#d9822b", "#3d9970", "#85144b")
_INK, _FAINT = "#222222", "#8a8a8a"


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """One bar a row (name, value, note), the first in a colour of its own; notes stand below their bars."""
    height = _TOP + len(rows) * (_BAR + _GAP)
    most = max(value for _, value, _ in rows) or 1
    parts = []
    for number, (name, value, note) in enumerate(rows):
        top = _TOP + number * (_BAR + _GAP)
        length = round((_WIDTH - _LABELS - 90) * value / most)
        parts += [
            _text(_LABELS - 8, top + 16, name, anchor="end"),
            f'<rect x="{_LABELS}" y="{top}" width="{length}" height="{_BAR}" fill="{_COLOURS[number > 0]}"/>',
            _text(_LABELS + length + 6, top + 16, _number(value)),
            _text(_LABELS, top + _BAR + 13, note, size=11, colour=_FAINT),
        ]
    return _svg(height, title, parts)


def lines(title: str, places: Sequence[str], series: Mapping[str, Sequence[float | None]], target: float | None) -> str:
    """A line a series over places at equal distances, from nought up; None: nothing there. `target`: a dashed line."""
    values = [value for of_series in series.values() for value in of_series if value is not None]
    most = max([*values, target or 0]) * 1.08 or 1
    right, floor = _WIDTH - 170, _HEIGHT - _BOTTOM

    def x(number: int) -> float:
        return round(_LEFT + (right - _LEFT) * number / max(1, len(places) - 1), 1)

    def y(value: float) -> float:
        return round(floor - (floor - _TOP) * value / most, 1)

    parts = [f'<path d="M{_LEFT} {_TOP}V{floor}H{right}" fill="none" stroke="{_FAINT}"/>']
    for step in range(5):
        value = most * step / 4
        parts.append(_text(_LEFT - 8, y(value) + 4, _number(value), anchor="end", size=11, colour=_FAINT))
    parts += [_text(x(number), floor + 18, place, anchor="middle", size=11) for number, place in enumerate(places)]
    if target is not None:
        parts.append(f'<path d="M{_LEFT} {y(target)}H{right}" stroke="{_FAINT}" stroke-dasharray="5 4"/>')
        parts.append(_text(right + 8, y(target) + 4, f"target {_number(target)}", size=11, colour=_FAINT))
    for number, (name, of_series) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(at), y(value), value) for at, value in enumerate(of_series) if value is not None]
        path = " ".join(f"{left},{top}" for left, top, _ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for left, top, value in points:
            parts.append(f'<circle cx="{left}" cy="{top}" r="3.5" fill="{colour}"/>')
            parts.append(_text(left, top - 8, _number(value), anchor="middle", size=11, colour=colour))
        parts.append(_text(right + 8, _TOP + 10 + 18 * number, name, size=12, colour=colour))
    return _svg(_HEIGHT, title, parts)


def _text(left: float, top: float, text: str, *, anchor: str = "start", size: int = 13, colour: str = _INK) -> str:
    return f'<text x="{left}" y="{top}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" role="img"><title>{escape(title)}</title>'
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>'
    )
    return "\n".join([head, _text(16, 28, title, size=15), *parts, "</svg>"]) + "\n"
