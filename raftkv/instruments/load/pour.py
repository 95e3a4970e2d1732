"""Work that must be done whole: one request for each of many items, sent again until it is answered well."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from raftkv.instruments.load.engine import C, Failure, Times
from raftkv.instruments.load.plan import LoadError

ATTEMPTS_MAX: Final = 250
"""One item in vain so often, with the engine's pauses some seconds, and the whole is given up."""

T = TypeVar("T")

Answer = tuple[int, bytes] | Failure


class Pour(Generic[T, C]):
    """``Work`` for ``items``; raises ``LoadError``. Repeating a request must do no harm.

    ``request`` makes the call for (item, turn, time), turns being counted; ``judge`` says what is wrong with an answer,
    if anything is.
    """

    def __init__(
        self,
        items: Iterable[T],
        *,
        request: Callable[[T, int, float], C],
        judge: Callable[[C, Answer, Times], Failure | None],
        attempts_max: int = ATTEMPTS_MAX,
    ) -> None:
        self._items = iter(items)
        self._again: deque[tuple[T, int]] = deque()
        self._under_way: dict[int, tuple[T, int]] = {}
        self._request = request
        self._judge = judge
        self._attempts_max = attempts_max
        self._turn = 0
        self.done = 0

    def begin(self, client: int, began_s: float) -> C | None:  # noqa: ARG002  see Work
        """See ``Work``. A client leaves when no item waits, those that are under way being repeated by their own."""
        if self._again:
            item, attempt = self._again.popleft()
        else:
            try:
                item, attempt = next(self._items), 1
            except StopIteration:
                return None
        self._turn += 1
        call = self._request(item, self._turn, began_s)
        self._under_way[id(call)] = (item, attempt)
        return call

    def answered(self, call: C, status: int, body: bytes, times: Times) -> bool:
        """See ``Work``."""
        return self._settle(call, (status, body), times)

    def failed(self, call: C, failure: Failure, times: Times) -> None:
        """See ``Work``."""
        self._settle(call, failure, times)

    def _settle(self, call: C, answer: Answer, times: Times) -> bool:
        item, attempt = self._under_way.pop(id(call))  # the engine holds the call until now
        wrong = self._judge(call, answer, times)
        if wrong is None:
            self.done += 1
            return True
        if attempt == self._attempts_max:
            raise LoadError(f"{attempt} requests in vain, the last because: {wrong.code}, {wrong.detail}")
        self._again.append((item, attempt + 1))
        return False
