"""The picture is an SVG that holds every point and no markup of others."""

import xml.etree.ElementTree as ET

from trivet.cli.trial.picture import draw


def test_each_decider_has_a_line_and_each_point_a_dot_inside_the_frame() -> None:
    curves = {"static": [(0.001, 0.2), (0.05, 0.6)], "<b>&": [(0.01, 0.5)]}
    root = ET.fromstring(draw(curves, title="a < b"))
    space = "{http://www.w3.org/2000/svg}"
    dots = root.findall(f"{space}circle")
    assert len(dots) == 3
    assert len(root.findall(f"{space}polyline")) == 2
    assert all(0 < float(d.attrib["cx"]) < 720 and 0 < float(d.attrib["cy"]) < 440 for d in dots)
    assert "<b>&" in [t.text for t in root.findall(f"{space}text")]


def test_a_single_point_without_error_can_be_drawn() -> None:
    assert draw({"static": [(0.0, 0.0)]}, title="").startswith("<svg")
