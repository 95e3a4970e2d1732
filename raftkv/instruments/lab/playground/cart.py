"""Two people and one shopping cart: both read it, both add something, both write it back; then somebody looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from raftkv.core.config import Address
from raftkv.instruments.lab.additions import LIST_PREFIX, Additions, Update, elements
from raftkv.instruments.lab.dialect import ClientStep, Meaning
from raftkv.instruments.lab.exchange import attempt, channel
from raftkv.instruments.lab.history import GetAction, Outcome
from raftkv.instruments.lab.playground.telling import KEY_PREFIX

TIMEOUT_S: Final = 2.0
PEOPLE: Final = (("Ann", b"milk"), ("Bob", b"bread"))
STEPS_MAX: Final = 12


class CartTold(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, a sentence a line; ``lost`` is what was acknowledged and is not in the cart."""

    lines: list[str]
    lost: list[str]
    is_certain: bool
    """Was everything answered, so that it can be said what was lost?"""


async def shop(
    number: int, update: Update, servers: Mapping[str, Address], nodes: Sequence[str], *, read: str
) -> CartTold:
    """Let Ann at the first of ``nodes`` and Bob at the second fill cart ``number``; reads ask as ``read`` says."""
    key = LIST_PREFIX + KEY_PREFIX + b"cart/%d" % number
    places = [nodes[at % len(nodes)] for at in range(3)]
    channels = {node: channel(servers[node]) for node in places}
    lines: list[str] = []

    async def ask(who: str, node: str, step: ClientStep) -> Meaning:
        found = await attempt(channels[node], step, timeout_s=TIMEOUT_S, query=read)
        lines.append(_told(who, node, step, found))
        return found

    done: dict[str, bool] = {}
    try:
        carts = {who: Additions(update) for who, _ in PEOPLE}
        for who, thing in PEOPLE:
            carts[who].begin(key, thing)
        for _ in range(STEPS_MAX):
            for (who, _), node in zip(PEOPLE, places, strict=False):
                if not carts[who].is_under_way:
                    continue
                step = carts[who].next_step()
                found = await ask(who, node, step)
                carts[who].learn(found)
                if not isinstance(step.action, GetAction):
                    done[who] = found.outcome is Outcome.OK and found.result is not False
        look = await ask("The next one", places[2], ClientStep(key=key, action=GetAction()))
    finally:
        for each in channels.values():
            each.close()
    return _concluded(lines, look, done)


def _concluded(lines: list[str], look: Meaning, done: Mapping[str, bool]) -> CartTold:
    if look.outcome is not Outcome.OK:
        return CartTold(lines=lines, lost=[], is_certain=False)
    values = [value for value in (look.result, *look.siblings) if isinstance(value, bytes)]
    there = {each for value in values for each in elements(value)}
    lost = [thing.decode() for who, thing in PEOPLE if done.get(who) and thing not in there]
    return CartTold(lines=lines, lost=lost, is_certain=True)


def _told(who: str, node: str, step: ClientStep, found: Meaning) -> str:
    if isinstance(step.action, GetAction):
        if found.outcome is not Outcome.OK:
            return f"{who} asks {node} what is in the cart, and is refused."
        carts = [_cart(value) for value in (found.result, *found.siblings)]
        return f"{who} asks {node}: {' and, beside it, '.join(carts)}."
    value = getattr(step.action, "value", None)
    came = {Outcome.OK: "done", Outcome.FAILED: "refused", Outcome.UNKNOWN: "nobody knows what became of it"}
    result = "no: the cart has changed" if found.result is False else came[found.outcome]
    return f"{who} writes {_cart(value)} at {node}: {result}."


def _cart(value: object) -> str:
    things = elements(value) if isinstance(value, bytes) else []
    return " and ".join(each.decode() for each in things) or "nothing"
