"""What all who look are told is made once for all of them, and again when it is due."""

from __future__ import annotations

from itertools import count

from raftkv.api.cluster_answers import ClientTraffic, StandingTold, TrafficTold
from raftkv.core.sights import View
from raftkv.http.telling import LOOK_S, STANDING_S, TRAFFIC_S, Telling

NOBODY = StandingTold(status=None, members=[])


def test_a_view_is_encoded_once():
    telling, view = Telling(), View(silence="it rests")

    assert telling.sights(view) is telling.sights(view)
    assert telling.sights(View()) != telling.sights(view)


def test_how_the_node_stands_is_told_when_that_has_changed_and_looked_at_no_more_often_than_it_may_be():
    telling, looks = Telling(), count()
    first = telling.standing(0.0, lambda: next(looks), lambda: NOBODY)
    again = telling.standing(LOOK_S / 2, lambda: next(looks), lambda: NOBODY)

    assert again is first
    assert next(looks) == 1
    assert telling.standing(LOOK_S, lambda: "changed", lambda: NOBODY) is not first


def test_how_the_node_stands_is_told_now_and_then_though_it_stands_as_before():
    telling = Telling()
    first, early, late = [
        telling.standing(now_s, lambda: "the same", lambda: NOBODY) for now_s in (0.0, 1.0, STANDING_S)
    ]

    assert early is first
    assert late is not first


def test_what_clients_ask_is_counted_once_for_all_within_its_time():
    telling = Telling()

    def at(now_s: float) -> bytes:
        told = ClientTraffic(at_s=now_s, requests=0, errors={}, took={}, disk={}, streams=0)
        return telling.traffic(now_s, lambda: TrafficTold(told))

    first, early, late = map(at, (0.0, TRAFFIC_S / 2, TRAFFIC_S))

    assert early is first
    assert late != first
