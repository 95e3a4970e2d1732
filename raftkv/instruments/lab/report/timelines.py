"""A few operations drawn in the order of events: who asked what, what was answered, which write is gone. Pure.

``wide`` has a lane for each client, and time runs to the right; ``narrow``, for phones, has a column for each client,
and time runs down. Neither is to scale: what matters is what was over before something else began.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from raftkv.instruments.lab.flaw import FlawKind
from raftkv.instruments.lab.history import LAST_LOOK, GetAction, ObservedOperation, Outcome
from raftkv.instruments.lab.lanes import Moment, begin_of, end_of, lanes, places
from raftkv.instruments.lab.report.drawing import Canvas, text_width
from raftkv.instruments.lab.report.losses import LostWrite
from raftkv.instruments.lab.report.pace import Band
from raftkv.instruments.lab.witness import Witness
from raftkv.instruments.lab.wording import clock_for, described

WIDTH: Final = 880
NARROW: Final = 360
MARGIN: Final = 92
LANE_PX: Final = 50
BAR_PX: Final = 12

_LEAST: Final = 640
_SMALL_PX: Final = 6.0
"""How wide a character of the smaller letters is, with some room."""

SHOWN_MAX: Final = 14
"""Nobody reads more bars; the history has them all."""


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """A line across everything, at the end of ``at``: the answer that cannot be."""

    at: ObservedOperation
    words: str
    is_harm: bool

    @property
    def kind(self) -> str:
        """How it is drawn."""
        return "bad" if self.is_harm else "warn"


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn. ``description`` is for those who do not see it; ``stale`` and ``lost`` are drawn as such.

    What is lost is there until ``over`` has written over it, or nobody knows for how long. ``absent`` is what that and
    the last look leave out.
    """

    description: str
    operations: Sequence[ObservedOperation]
    origin_ns: int
    stale: AbstractSet[ObservedOperation] = frozenset()
    lost: AbstractSet[ObservedOperation] = frozenset()
    bands: Sequence[Band] = ()
    sign: Sign | None = None
    over: ObservedOperation | None = None
    absent: str = ""

    @property
    def end(self) -> ObservedOperation:
        """By when what was lost is gone."""
        return self.over or self.operations[-1]

    def kind(self, operation: ObservedOperation) -> str:
        """The kind of its bar."""
        if operation.outcome is not Outcome.OK:
            return "doubt" if operation.outcome is Outcome.UNKNOWN else "muted"
        if operation in self.lost or (self.sign is not None and operation is self.sign.at and self.sign.is_harm):
            return "bad"
        if operation in self.stale or (self.sign is not None and operation is self.sign.at):
            return "warn"
        return "good" if isinstance(operation.action, GetAction) else "write"

    def label(self, operation: ObservedOperation) -> str:
        """The operation in few words, and what is wrong with it."""
        wrong = ", lost" if operation in self.lost else ", stale" if operation in self.stale else ""
        leaves_out = operation is self.over or operation.note == LAST_LOOK
        return label(operation) + wrong + (f", without {self.absent}" if self.absent and leaves_out else "")

    def when(self, operation: ObservedOperation) -> str:
        """Where and when it was asked."""
        clock = clock_for(self.operations, self.origin_ns)
        until = "?" if operation.outcome is Outcome.UNKNOWN else clock.seconds(operation.returned_ns)
        return f"{operation.node}  {clock.seconds(operation.invoked_ns)} to {until} s"

    def edges(self, band: Band) -> tuple[Moment, Moment]:
        """The moments of a fault."""
        begin, end = (self.origin_ns + round(at_s * 1e9) for at_s in (band.from_s, band.until_s))
        return (begin, 1), (end, 1)

    def moments(self) -> list[Moment]:
        """All that must have a place, but for operations."""
        signs = [] if self.sign is None else [end_of(self.sign.at)]
        return [*signs, *(moment for band in self.bands for moment in self.edges(band))]


def of_witness(proof: Witness, *, is_harm: bool) -> Scene:
    """Why no single copy gave these answers."""
    accused = proof.operations[proof.accused]
    others = [each for each in proof.operations if each is not accused]
    return Scene(
        description=proof.sentence,
        operations=[*others[: SHOWN_MAX - 1], accused],
        origin_ns=proof.origin_ns,
        stale={accused} if proof.kind is FlawKind.STALE_READ else frozenset(),
        sign=Sign(at=accused, words=flaw_name(proof.kind), is_harm=is_harm),
    )


def of_loss(loss: LostWrite, bands: Sequence[Band]) -> Scene:
    """Who read what, who wrote what, and which write is gone; with the faults meanwhile."""
    first, last = loss.operations[0], loss.over or loss.operations[-1]
    from_s, until_s = ((at_ns - loss.origin_ns) / 1e9 for at_ns in (first.invoked_ns, last.invoked_ns))
    during = [each for each in bands if each.until_s > from_s and each.from_s < until_s]
    return Scene(
        description=loss.sentence,
        operations=loss.operations,
        origin_ns=loss.origin_ns,
        lost={loss.lost},
        bands=during,
        over=loss.over,
        absent=loss.element,
    )


def flaw_name(kind: FlawKind) -> str:
    """The kind for a reader: what one read does not find may be there for the next."""
    return "missing write" if kind is FlawKind.LOST_WRITE else kind.value


def label(operation: ObservedOperation) -> str:
    """The operation in few words."""
    return described(operation) + {Outcome.OK: "", Outcome.UNKNOWN: " ?", Outcome.FAILED: " refused"}[operation.outcome]


def wide(scene: Scene) -> Canvas:
    """The scene with time to the right."""
    rows = lanes(scene.operations)
    x_of, width = _places(scene)
    canvas = Canvas(width, 34 + LANE_PX * len(rows) + 26, scene.description)
    for band in scene.bands:
        left, right = (x_of[moment] for moment in scene.edges(band))
        canvas.rect(left, 20, right - left, canvas.height - 44, "band")
        _over(canvas, left, band.words, "small")
    row_of = {each: row for row, lane in enumerate(rows) for each in lane}
    for row, lane in enumerate(rows):
        canvas.line(MARGIN - 8, _bar_y(row) + 6, canvas.width - 8, _bar_y(row) + 6)
        canvas.text(8, _bar_y(row) + 10, _who(lane[0]), "strong")
    for lost in scene.lost:
        _life(canvas, scene, x_of, row_of, lost)
    for operation, row in row_of.items():
        start, y = x_of[begin_of(operation)], _bar_y(row)
        is_open = operation.outcome is Outcome.UNKNOWN
        end = canvas.width - 10 if is_open else x_of[end_of(operation)]
        kind = scene.kind(operation)
        canvas.rect(start, y, end - start, BAR_PX, f"{kind} faint" if is_open else kind, round_px=0 if is_open else 3)
        canvas.text(start, y - 5, scene.label(operation), "strong")
        canvas.text(start, y + 25, scene.when(operation), "small")
    if scene.sign is not None:
        x = x_of[end_of(scene.sign.at)]
        canvas.line(x, 20, x, canvas.height - 24, f"moment {scene.sign.kind}")
        _over(canvas, x, scene.sign.words, f"{scene.sign.kind} strong")
    canvas.text(MARGIN - 8, canvas.height - 6, _note(scene), "small")
    return canvas


def _bar_y(row: int) -> float:
    return 34 + row * LANE_PX + 15


def _who(operation: ObservedOperation) -> str:
    return "in the end" if operation.note == LAST_LOOK else f"client {operation.client}"


def _note(scene: Scene) -> str:
    is_open = any(operation.outcome is Outcome.UNKNOWN for operation in scene.operations)
    return "Order of events, not to scale." + (" An open end: its client was never told." if is_open else "")


def _life(
    canvas: Canvas,
    scene: Scene,
    x_of: Mapping[Moment, float],
    row_of: Mapping[ObservedOperation, int],
    lost: ObservedOperation,
) -> None:
    """From its answer on a lost write is there, until somebody writes over it, or nobody knows when."""
    y = _bar_y(row_of[lost]) + 6
    start, x = x_of[end_of(lost)], x_of[end_of(scene.end)]
    canvas.line(start, y, x, y, "life")
    canvas.line(x, y, x, _bar_y(row_of[scene.end]) + 6, "life dashed")
    _cross(canvas, x, y)
    canvas.text(x + 10, y + 4, "gone", "bad strong")


def _cross(canvas: Canvas, x: float, y: float) -> None:
    for slope in (1, -1):
        canvas.line(x - 6, y - 6 * slope, x + 6, y + 6 * slope, "life")


def _over(canvas: Canvas, x: float, words: str, kind: str) -> None:
    """``words`` above the lanes, at ``x`` or as near to it as they fit."""
    fits = x + text_width(words) < canvas.width
    canvas.text(x if fits else canvas.width - 8, 14, words, kind if fits else f"{kind} end")


def _places(scene: Scene) -> tuple[dict[Moment, float], float]:
    """Where everything stands, in pixels from the left; how wide all is."""

    def room(operation: ObservedOperation) -> float:
        return max(text_width(scene.label(operation)) + 8, len(scene.when(operation)) * _SMALL_PX)

    found = places(scene.operations, scene.moments(), first=MARGIN, step=16, room=room)
    ends = [found[begin_of(each)] + room(each) for each in scene.operations]
    return found, max(_LEAST, max(found.values(), default=0.0) + 60, *ends) + 20


_COLUMN_PX: Final = 22
_LINE_PX: Final = 16
_STEP_PX: Final = 14


def narrow(scene: Scene) -> Canvas:
    """The scene with time downwards: a column for each client, and all words beside them."""
    columns = lanes(scene.operations)
    column_of = {each: column for column, lane in enumerate(columns) for each in lane}
    words_x = 16 + _COLUMN_PX * len(columns)
    words = _words(scene, int((NARROW - words_x) / 7))
    y_of, height = {}, 30.0
    for moment in sorted({*words, *map(end_of, scene.operations)} - {(math.inf, 1)}):
        y_of[moment] = height
        height += max(_STEP_PX, _LINE_PX * len(words.get(moment, ())) + 6)
    canvas = Canvas(NARROW, height + 26, scene.description)
    _columns(canvas, scene, columns, y_of, height)
    for lost in scene.lost:
        x, y = _column_x(column_of[lost]) + 6, y_of[end_of(scene.end)]
        canvas.line(x, y_of[end_of(lost)], x, y, "life")
        canvas.line(x, y, _column_x(column_of[scene.end]) + 6, y, "life dashed")
        _cross(canvas, x, y)
    for operation, column in column_of.items():
        top, is_open = y_of[begin_of(operation)], operation.outcome is Outcome.UNKNOWN
        bottom = height if is_open else y_of[end_of(operation)]
        kind = f"{scene.kind(operation)} faint" if is_open else scene.kind(operation)
        canvas.rect(_column_x(column), top, BAR_PX, bottom - top, kind, round_px=0 if is_open else 3)
    for moment, lines in words.items():
        for number, (text, kind) in enumerate(lines):
            canvas.text(words_x, y_of[moment] + 11 + number * _LINE_PX, text, kind)
    if scene.sign is not None:
        y = y_of[end_of(scene.sign.at)]
        canvas.line(4, y, words_x - 4, y, f"moment {scene.sign.kind}")
    for number, text in enumerate(textwrap.wrap(_note(scene), 56)):
        canvas.text(8, height + 12 + 12 * number, text, "small")
    return canvas


def _columns(
    canvas: Canvas,
    scene: Scene,
    columns: Sequence[Sequence[ObservedOperation]],
    y_of: Mapping[Moment, float],
    height: float,
) -> None:
    """What stands behind everything: faults, and a line for each client."""
    for band in scene.bands:
        top, bottom = (y_of[moment] for moment in scene.edges(band))
        canvas.rect(0, top - 2, NARROW, bottom - top, "band")
    for column, lane in enumerate(columns):
        x = _column_x(column)
        canvas.text(x + 6, 14, "end" if lane[0].note == LAST_LOOK else str(lane[0].client), "small strong middle")
        canvas.line(x + 6, 20, x + 6, height)


def _column_x(column: int) -> float:
    return 8 + column * _COLUMN_PX


def _words(scene: Scene, characters: int) -> dict[Moment, list[tuple[str, str]]]:
    """What stands beside each moment, line by line, with the kind of each."""
    found: dict[Moment, list[tuple[str, str]]] = {}
    for band in scene.bands:
        begin, end = scene.edges(band)
        found.setdefault(begin, []).extend((line, "small") for line in textwrap.wrap(band.words, characters))
        found.setdefault(end, [])
    for operation in scene.operations:
        lines = [(line, "strong") for line in textwrap.wrap(scene.label(operation), characters)]
        said = textwrap.wrap(f"{_who(operation)} at {scene.when(operation)}", characters + 4)
        found.setdefault(begin_of(operation), []).extend([*lines, *((line, "small") for line in said)])
    for lost in scene.lost:
        found.setdefault(end_of(scene.end), []).append((f"gone: what client {lost.client} wrote", "bad strong"))
    if scene.sign is not None:
        found.setdefault(end_of(scene.sign.at), []).append((scene.sign.words, f"{scene.sign.kind} strong"))
    return found
