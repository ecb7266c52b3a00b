"""Draws hit rate against error as an SVG: one line for each decider, no library, readable in any browser.

Not here: the numbers (`tune.py`).
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 440, 64, 24, 130, 56
_COLOURS = ("#0b6e4f", "#c1440e", "#3a5ba0", "#7a4f9a")


def draw(curves: Mapping[str, Sequence[tuple[float, float]]], *, title: str) -> str:
    """Draw curves of (error rate, hit rate), both shares; at least one point. Gives the text of an SVG file."""
    points = [point for curve in curves.values() for point in curve]
    most_error = ceil(max([error for error, _ in points] + [0.01]) * 100) / 100
    most_hits = ceil(max([hits for _, hits in points] + [0.1]) * 10) / 10

    def x(error: float) -> float:
        return _LEFT + error / most_error * (_WIDTH - _LEFT - _RIGHT)

    def y(hits: float) -> float:
        return _HEIGHT - _BOTTOM - hits / most_hits * (_HEIGHT - _TOP - _BOTTOM)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<style>text { font: 12px sans-serif }</style>",
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for i in range(6):
        error, hits = most_error * i / 5, most_hits * i / 5
        lines += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(hits):.1f}" y2="{y(hits):.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 8}" y="{y(hits) + 4:.1f}" text-anchor="end">{hits:.0%}</text>',
            f'<text x="{x(error):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{error:.1%}</text>',
        ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">wrong hits, of all answers</text>')
    lines.append(f'<text x="{_LEFT}" y="{_TOP - 8}">hits, of all requests</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        ordered = sorted(curve)
        path = " ".join(f"{x(error):.1f},{y(hits):.1f}" for error, hits in ordered)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x(e):.1f}" cy="{y(h):.1f}" r="3" fill="{colour}"/>' for e, h in ordered]
        at = _TOP + 18 * number
        lines.append(f'<rect x="{_WIDTH - _RIGHT + 16}" y="{at}" width="10" height="10" fill="{colour}"/>')
        lines.append(f'<text x="{_WIDTH - _RIGHT + 32}" y="{at + 9}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])
