"""The words that planted bugs are written in: what is put in the place of what, until it is given back.

A bug that no word fits is a function of what stood there (``original``) and of what that is called with. Imports
msgspec and the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import msgspec


class Swap(NamedTuple):
    """``make`` is given what stands at ``attribute`` of ``owner``, and makes what stands there instead."""

    owner: Any
    attribute: str
    make: Callable[[Any], Any]


class Remedy(msgspec.Struct, frozen=True):
    """``what`` holds against ``hazards``, which have numbers in the documents, unless the ``swaps`` are in force."""

    hazards: str
    what: str
    swaps: tuple[Swap, ...]

    @contextmanager
    def taken_away(self) -> Iterator[None]:
        """Everything as it is, but for this."""
        with ExitStack() as stack:
            for owner, attribute, make in self.swaps:
                stack.enter_context(mock.patch.object(owner, attribute, make(getattr(owner, attribute))))
            yield


def remedy(hazards: str, what: str, *swaps: Swap) -> Remedy:
    """The remedy that says ``what`` holds."""
    return Remedy(hazards, what, swaps)


def rule(what: str, *swaps: Swap) -> Remedy:
    """A rule of our own, against no hazard of the library."""
    return Remedy("-", what, swaps)


def instead(owner: Any, attribute: str, value: Any) -> Swap:
    """Another value, or function."""
    return Swap(owner, attribute, lambda _original: value)


def gives(owner: Any, method: str, value: object = None) -> Swap:
    """A function that does nothing, and always gives ``value``."""
    return instead(owner, method, lambda *_, **__: value)


def always(owner: Any, attribute: str, value: object) -> Swap:
    """Whatever is assigned, it is ``value``."""
    return instead(owner, attribute, property(lambda _self: value, lambda _self, _assigned: None))


def around(owner: Any, method: str, change: Callable[..., Any]) -> Swap:
    """``change`` is called in its place, with the original before all that it is called with."""

    def make(original: Any) -> Any:
        return lambda *given, **named: change(original, *given, **named)

    return Swap(owner, method, make)


def then(owner: Any, method: str, more: Callable[..., Any]) -> Swap:
    """``more`` is done after it, with the same arguments."""

    def both(original: Any, *given: Any, **named: Any) -> None:
        original(*given, **named)
        more(*given, **named)

    return around(owner, method, both)


def called_with(owner: Any, method: str, **changes: Any) -> Swap:
    """It is called with these instead of what is said."""
    return around(owner, method, lambda original, *given, **named: original(*given, **named | changes))
