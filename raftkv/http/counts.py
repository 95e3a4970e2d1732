"""What the workers of a front-end count, in memory that all of them share: whichever is asked, it tells the sum.

Rules: a worker writes the cells of its own slot and no others, so nothing is locked and a request costs two additions;
a slot outlives its worker, and the next one that takes it goes on from its counts, so no sum ever goes back; what is
there only while its worker is (``LEVELS``) begins at nothing. Cells are of 8 bytes, which a machine writes whole. The
memory is made before workers are forked, and ends with the last of them. Knows routes by name only.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from itertools import accumulate
from typing import Final, NamedTuple

from raftkv.core.measures import BUCKETS_S

BOUNDS: Final = (*(str(bound_s) for bound_s in BUCKETS_S), "+Inf")

LEVELS: Final = ("pid", "in_flight", "streams", "listeners")
COUNTED: Final = ("streams_complete", "streams_left", "streams_cut", "lines_dropped")

GRPC: Final = "gRPC"
"""The method of a call by HTTP/2, whose code is one of gRPC's."""

GRPC_CODES: Final = range(17)
CODES: Final = (*GRPC_CODES, *sorted(status.value for status in HTTPStatus if status.value >= 200))
"""Every status that there is: none of ours needs to be listed again."""

PAGES: Final = "(pages)"
"""The route and method under which answers to pages of the console are counted once more: they are among the others."""

OTHER: Final = "(other)"
"""The method of a request that has none of the usual ones."""

UNROUTED: Final = "(none)"
"""The route of a request that has none."""

_BLOCK: Final = len(BOUNDS) + 1
"""The cells of one code of one route: how many answers took how long, and all of them together (seconds)."""

_TOTAL: Final = _BLOCK - 1
_PLACE_OF_CODE: Final = {code: place * _BLOCK for place, code in enumerate(CODES)}
_PLACE_OF_NAME: Final = {name: place for place, name in enumerate(LEVELS + COUNTED)}
_CELL_BYTES: Final = 8
_QUIET: Final = bytes(_CELL_BYTES * _BLOCK)
_ROW: Final = len(CODES) * _BLOCK
_QUIET_ROW: Final = bytes(_CELL_BYTES * _ROW)


class Answered(NamedTuple):
    """The answers with one code to one method of one route, of all workers."""

    route: str
    method: str
    code: int
    buckets: tuple[int, ...]
    """Cumulative, by ``BOUNDS``."""

    total_s: float


class Counts:
    """The cells of all workers, and those of this one. ``requests`` are the (route, method) that are told apart.

    A request that is none of them counts for the last.
    """

    def __init__(self, requests: Sequence[tuple[str, str]], *, slots: int = 1) -> None:
        self._requests = tuple(requests)
        self._slot_cells = len(_PLACE_OF_NAME) + len(self._requests) * len(CODES) * _BLOCK
        self._rows = {
            request: len(_PLACE_OF_NAME) + place * len(CODES) * _BLOCK for place, request in enumerate(self._requests)
        }
        self._other_row = self._rows[self._requests[-1]]
        self._slots = slots
        # Pages that nobody counts in are never made: most codes of most routes.
        self._all = memoryview(mmap.mmap(-1, slots * self._slot_cells * _CELL_BYTES)).cast("Q")
        self._taken: dict[object, int] = {}
        self._write(0)

    def _cells(self, slot: int) -> memoryview:
        return self._all[slot * self._slot_cells : (slot + 1) * self._slot_cells]

    def _write(self, slot: int) -> None:
        """Count in ``slot`` from now on."""
        self._own = self._cells(slot)
        self._own_s = _as_seconds(self._own)

    # --- of the process that forks workers

    def give(self, worker: object) -> None:
        """A slot for the process that is forked next. Raises ``ValueError`` when there are more than was ever meant."""
        slot = min(set(range(self._slots)) - set(self._taken.values()))
        self._taken[worker] = slot
        self._write(slot)
        for name in LEVELS:
            self._own[_PLACE_OF_NAME[name]] = 0

    def take_back(self, worker: object) -> None:
        """``worker`` has ended; what it had counted stays."""
        slot = self._taken.pop(worker, None)
        if slot is not None:
            cells = self._cells(slot)
            for name in LEVELS:
                cells[_PLACE_OF_NAME[name]] = 0

    # --- of a worker

    def observe(self, route: str, method: str, code: int, taken_s: float) -> None:
        """Count one answer; ``route`` and ``method`` come from the list of routes."""
        block = self._rows.get((route, method), self._other_row) + _PLACE_OF_CODE[code]
        own = self._own
        own[block + bisect_left(BUCKETS_S, taken_s)] += 1
        self._own_s[block + _TOTAL] += taken_s

    def change(self, name: str, by: int) -> None:
        """What ``name`` counts is more or less by so much."""
        self._own[_PLACE_OF_NAME[name]] += by

    def set(self, name: str, value: int) -> None:
        """What ``name`` counts is so much at this worker now."""
        self._own[_PLACE_OF_NAME[name]] = value

    # --- for who asks

    def sum(self, name: str) -> int:
        """``name`` over all workers, those that have ended included."""
        place = _PLACE_OF_NAME[name]
        return sum(self._all[place :: self._slot_cells])

    def pids(self) -> list[int]:
        """The workers that are there."""
        return [pid for pid in self._all[_PLACE_OF_NAME["pid"] :: self._slot_cells] if pid]

    def answers(self) -> Iterator[Answered]:
        """What was answered so far."""
        slots = [self._cells(slot) for slot in range(self._slots)]
        for (route, method), row in self._rows.items():
            # Most routes are asked by nobody, and their codes need not be looked at one by one.
            if all(cells[row : row + _ROW].tobytes() == _QUIET_ROW for cells in slots):
                continue
            for code, place in _PLACE_OF_CODE.items():
                blocks = [cells[row + place :][:_BLOCK] for cells in slots]
                if any(block.cast("B") != _QUIET for block in blocks):
                    buckets = accumulate(sum(cell) for cell in zip(*[block[:_TOTAL] for block in blocks], strict=True))
                    total_s = sum(_as_seconds(block)[_TOTAL] for block in blocks)
                    yield Answered(route, method, code, tuple(buckets), total_s)


def _as_seconds(cells: memoryview) -> memoryview[float]:
    return cells.cast("B").cast("d")
