"""Histories made by hand, and what is seen in a picture of one."""

from xml.etree import ElementTree as ET

from raftkv.instruments.lab.history import ObservedOperation, Outcome

MS = 1_000_000
SVG = "{http://www.w3.org/2000/svg}"


def done(client, action, result=None, *, at, until=None, key=b"k", outcome=Outcome.OK, note="", siblings=()):
    returned_ms = at + 1 if until is None else until
    return ObservedOperation(
        client=client,
        key=key,
        action=action,
        invoked_ns=at * MS,
        returned_ns=None if outcome is Outcome.UNKNOWN else returned_ms * MS,
        outcome=outcome,
        result=result,
        note=note,
        siblings=siblings,
    )


def texts_of(canvas):
    return [each.text for each in ET.fromstring(canvas.alone()).iter(f"{SVG}text")]


def bars_of(canvas):
    """The kind of each bar, where it begins and ends: from the left, or in a narrow picture from the top."""
    place, size = ("x", "width") if canvas.width > 500 else ("y", "height")
    bars = [each for each in ET.fromstring(canvas.alone()).iter(f"{SVG}rect") if each.get("class") != "page"]
    return [
        (each.get("class"), float(each.get(place)), float(each.get(place)) + float(each.get(size))) for each in bars
    ]
