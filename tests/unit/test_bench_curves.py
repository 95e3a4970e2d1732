"""Curves: what was measured is kept between runs, and drawn as it is."""

import xml.etree.ElementTree as ET

import pytest

from bench.curve_plots import draw
from bench.curve_points import CURVES, Curves, Turn, load_curves, store_curves


def measured(curve):
    curves = Curves()
    for row in curve.rows:
        for panel in row:
            for number, system in enumerate(("etcd", "raft")):
                for x in curve.xs:
                    for turn in (1, 2):
                        numbers = {panel.number: (number + 1) * x * turn}
                        point = curves.point(curve.name, panel.what, system, x)
                        point.turns.append(Turn(numbers=numbers, load_average_1m=0.5))
    return curves


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_can_be_drawn_with_a_mark_for_each_place(name, tmp_path):
    curve = CURVES[name]
    picture = ET.fromstring(draw(curve, measured(curve)).alone())
    paths = [each.get("class") for each in picture.iter("{http://www.w3.org/2000/svg}path")]
    panels = sum(map(len, curve.rows))

    for number in (0, 1):
        assert paths.count(f"v{number}") == panels * len(curve.xs) + 1  # and the legend
    texts = {each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {panel.title for row in curve.rows for panel in row} <= texts


def test_what_was_not_measured_is_an_empty_panel():
    assert draw(CURVES["keys"], Curves()).alone().startswith("<svg")


def test_a_later_run_goes_on_where_the_last_one_ended(tmp_path):
    curves = measured(CURVES["nodes"])
    path = tmp_path / "out" / "curves.json"
    store_curves(curves, path)

    again = load_curves(path)
    point = again.point("nodes", "put", "raft", 5)
    assert len(point.turns) == 4  # two panels show it
    assert point.median("operations_per_s") == 15.0
    assert again.point("nodes", "put", "raft", 9).turns == []
    assert load_curves(tmp_path / "none").points == []
