"""Draws cost against quality as an SVG: one line for each order of the prompts; readable in any browser.

Not here: the numbers (`evaluate.py`).
"""

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 440, 64, 24, 130, 56
_COLOURS = ("#0b6e4f", "#999999", "#c1440e", "#3a5ba0", "#d4a017", "#7b3f8c")


def draw(curves: Mapping[str, Sequence[tuple[float, float]]], *, title: str, height: str = "mean score") -> str:
    """Draw curves of (cost relative to the large model, quality); at least one point. Gives the text of an SVG file.

    Args:
        height: what quality is measured in.
    """
    points = [point for curve in curves.values() for point in curve]
    low_x, high_x = min(p[0] for p in points), max(p[0] for p in points)
    low_y, high_y = min(p[1] for p in points), max(p[1] for p in points)
    wide, tall = max(high_x - low_x, 1e-9), max(high_y - low_y, 1e-9)

    def x(cost: float) -> float:
        return _LEFT + (cost - low_x) / wide * (_WIDTH - _LEFT - _RIGHT)

    def y(quality: float) -> float:
        return _HEIGHT - _BOTTOM - (quality - low_y) / tall * (_HEIGHT - _TOP - _BOTTOM)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<style>text { font: 12px sans-serif }</style>",
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for i in range(6):
        cost, quality = low_x + wide * i / 5, low_y + tall * i / 5
        lines += [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(quality):.1f}" y2="{y(quality):.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 8}" y="{y(quality) + 4:.1f}" text-anchor="end">{quality:.3f}</text>',
            f'<text x="{x(cost):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{cost:.2f}</text>',
        ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">cost, of the large model\'s alone</text>')
    lines.append(f'<text x="{_LEFT}" y="{_TOP - 8}">quality ({escape(height)})</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x(cost):.1f},{y(quality):.1f}" for cost, quality in curve)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = _TOP + 18 * number
        lines.append(f'<rect x="{_WIDTH - _RIGHT + 16}" y="{at}" width="10" height="10" fill="{colour}"/>')
        lines.append(f'<text x="{_WIDTH - _RIGHT + 32}" y="{at + 9}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])
