"""The drawing of a curve: a file that browsers read, whatever the names are."""

import xml.etree.ElementTree as ET

from trivet.cli.route.picture import draw


def test_there_is_a_line_for_each_order_and_names_are_text() -> None:
    root = ET.fromstring(draw({"a<b": [(0.1, 0.5), (1.0, 0.8)], "c": [(0.1, 0.5)]}, title="x & y"))
    assert len(root.findall("{*}polyline")) == 2
    assert "a<b" in [t.text for t in root.findall("{*}text")]


def test_one_point_alone_is_drawn() -> None:
    assert "nan" not in draw({"a": [(1.0, 1.0)]}, title="one")
