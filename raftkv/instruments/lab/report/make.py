"""Makes a run's report out of its folder, and writes it there.

``report.html`` is the page, ``results.json`` has every number of it, and ``pictures/`` each picture as SVG, and as PNG
where ``resvg-py`` is installed, which the extra ``lab`` brings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from raftkv.instruments.lab.record import SCENARIO
from raftkv.instruments.lab.report.drawing import Canvas, can_make_png
from raftkv.instruments.lab.report.figures import service, staleness
from raftkv.instruments.lab.report.page import page
from raftkv.instruments.lab.report.results import Results, of_run
from raftkv.instruments.lab.report.timelines import narrow, of_loss, of_witness, wide

PAGE: Final = "report.html"
RESULTS: Final = "results.json"
PICTURES: Final = "pictures"


def report(folder: Path) -> Results:
    """Compute everything from the evidence in ``folder`` and write it there; raises ``OSError`` and ``ValueError``."""
    results = of_run(folder)
    (folder / RESULTS).write_bytes(msgspec.json.format(msgspec.json.encode(results.variants)) + b"\n")
    source = (folder / SCENARIO).read_text() if (folder / SCENARIO).exists() else ""
    (folder / PAGE).write_text(page(results, source))
    directory = folder / PICTURES
    directory.mkdir(exist_ok=True)
    for name, canvas in pictures(results).items():
        for suffix in ("svg", "png") if can_make_png() else ("svg",):
            canvas.save(directory / f"{name}.{suffix}")
    return results


def pictures(results: Results) -> dict[str, Canvas]:
    """Every picture by the name of its file, each for wide pages and for narrow ones."""
    found: dict[str, Canvas] = {}
    for is_narrow, suffix in ((False, ""), (True, "-narrow")):
        draw = narrow if is_narrow else wide
        for each in results.variants:
            slug = each.variant.slug
            found[f"{slug}-pace{suffix}"] = service(each, is_narrow=is_narrow)
            if each.judgement.proof is not None:
                found[f"{slug}-witness{suffix}"] = draw(
                    of_witness(each.judgement.proof, is_harm=each.is_promise_broken)
                )
            if each.loss is not None:
                found[f"{slug}-loss{suffix}"] = draw(of_loss(each.loss, each.pace.bands))
        curve = staleness(results, is_narrow=is_narrow)
        if curve is not None:
            found[f"staleness{suffix}"] = curve
    return found
