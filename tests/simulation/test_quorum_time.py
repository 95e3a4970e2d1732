"""Time in a leaderless cluster: clocks that are wrong, leap, or were not heard yet, and what may not come of it."""

from structlog.testing import capture_logs

from raftkv.core.errors import Refused, Unknown
from raftkv.core.requests import Consistency, Get, Put, Read, Write
from raftkv.core.results import KeyRecord, Written
from raftkv.http.handlers.cluster import unready
from tests.simulation.leaderless import Leaderless

KEYS = [b"key %d" % number for number in range(20)]
DAY_S = 86_400.0


def reason(cluster, node):
    found = unready(cluster.replica(node).status(), 0.0)
    return "" if found is None else found[1]


def set_clocks(cluster, offset_s, *nodes):
    for node in nodes or cluster.machines:
        cluster.machines[node].wall_offset_s = offset_s


def local(cluster, node, key):
    content = cluster.ask(node, Read(query=Get(key=key), consistency=Consistency.LOCAL)).content
    return content.value if isinstance(content, KeyRecord) else None


# -- one clock of three


def test_a_write_at_a_node_whose_clock_is_ahead_is_stamped_like_any_other_and_hides_no_later_one():
    cluster = Leaderless(3, clock_ahead_s=300.0)
    set_clocks(cluster, 330.0, "n3")
    cluster.start_again("n3")
    cluster.run(1.0)
    first = cluster.put("n3", b"k", b"first", w=2)
    second = cluster.put("n1", b"k", b"second", w=2)
    cluster.run(31.0)
    set_clocks(cluster, 0.0)
    cluster.run(5.0)
    cluster.run_until_level()

    assert isinstance(first, Written)
    assert isinstance(second, Written)
    assert [cluster.held(node) for node in cluster.machines] == [{b"k": b"second"}] * 3


def test_a_key_lives_as_long_as_it_was_told_at_every_node_whatever_one_clock_shows():
    cluster = Leaderless(3)
    set_clocks(cluster, 200.0, "n3")
    cluster.start_again("n3")
    cluster.run(1.0)
    for node, key, ttl_ms in (("n1", b"long", 60_000), ("n3", b"short", 3_000)):
        cluster.ask(node, Write(operations=(Put(key=key, value=b"here", ttl_ms=ttl_ms),), acks=3))
    soon = [(local(cluster, node, b"long"), local(cluster, node, b"short")) for node in cluster.machines]
    cluster.run(8.0)
    later = [(local(cluster, node, b"long"), local(cluster, node, b"short")) for node in cluster.machines]
    read = [cluster.get(node, b"short") for node in cluster.machines]

    assert soon == [(b"here", b"here")] * 3
    assert later == [(b"here", None)] * 3
    assert read == [None] * 3


def test_deletions_that_others_have_forgotten_are_not_undone_by_a_node_whose_clock_is_behind():
    cluster = Leaderless(3, tombstone_grace_s=20.0)
    for key in KEYS:
        cluster.put("n1", key, b"value", w=3)
    cluster.kill("n3")
    for key in KEYS:
        cluster.delete("n1", key, w=2)
    cluster.run(44.0)
    set_clocks(cluster, -30.0, "n3")
    cluster.restart("n3")
    cluster.run(1.0)

    assert [cluster.held(node) for node in ("n1", "n2")] == [{}, {}]
    assert cluster.machines["n3"].process is None


def test_data_stays_out_until_all_clocks_are_heard_where_two_differ_about_its_age():
    cluster = Leaderless(3, tombstone_grace_s=20.0)
    for key in KEYS:
        cluster.put("n1", key, b"value", w=3)
    cluster.kill("n3")
    for key in KEYS:
        cluster.delete("n1", key, w=2)
    cluster.run(44.0)
    set_clocks(cluster, -30.0, "n3")
    cluster.cut(["n1"], ["n3"])
    cluster.restart("n3")
    cluster.run(5.0)
    told = reason(cluster, "n3")
    refused = cluster.put("n3", b"other", b"value")
    held = cluster.held("n2")
    cluster.heal()
    cluster.run(1.0)

    assert "depends on clocks that were not heard" in told
    assert isinstance(refused, Refused)
    assert held == {}
    assert cluster.machines["n3"].process is None


# -- clocks that were not heard


def test_a_node_that_has_heard_no_majority_of_clocks_refuses_and_shows_only_its_own_copy():
    cluster = Leaderless(3)
    cluster.put("n1", b"k", b"value", w=3)
    cluster.isolate("n1")
    cluster.start_again("n1")
    with capture_logs() as lines:
        cluster.run(3.0)
    written, read = cluster.put("n1", b"k", b"other", w=1), cluster.read("n1", b"k", r=1)
    alone = local(cluster, "n1", b"k")
    told = reason(cluster, "n1"), cluster.replica("n1").status().clock_fault
    cluster.heal()
    cluster.run(2.0)

    assert isinstance(written, Refused)
    assert isinstance(read, Refused)
    assert written.detail == read.detail == told[1] == "no agreed time: 1 of 3 clocks heard"
    assert "no quorum: 1 of 3" in told[0]
    assert alone == b"value"
    assert [line["reason"] for line in lines if line["event"] == "nothing is stamped"] == [written.detail]
    assert reason(cluster, "n1") == ""
    assert isinstance(cluster.put("n1", b"k", b"other", w=3), Written)


def test_a_node_that_is_cut_off_goes_on_with_the_clocks_that_it_has_heard():
    cluster = Leaderless(3)
    cluster.isolate("n1")
    set_clocks(cluster, 3600.0, "n1")
    cluster.run(20.0)
    alone = cluster.put("n1", b"k", b"alone", w=1, sloppy=False)
    cluster.heal()
    cluster.run(2.0)
    later = cluster.put("n2", b"k", b"later", w=3)

    assert isinstance(alone, Written)
    assert isinstance(later, Written)
    assert 0 < later.results[0].revision - alone.results[0].revision < 10_000_000


# -- most clocks


def test_after_all_clocks_were_a_day_ahead_nodes_say_so_and_the_way_out_works():
    cluster = Leaderless(3, tombstone_grace_s=10 * DAY_S)
    set_clocks(cluster, DAY_S)
    cluster.start_again(*cluster.machines)
    cluster.run(1.0)
    ahead = cluster.put("n1", b"k", b"ahead", w=3)
    set_clocks(cluster, 0.0)
    cluster.start_again(*cluster.machines)
    cluster.run(2.0)
    refused = cluster.put("n2", b"k", b"refused")
    told = [reason(cluster, node) for node in cluster.machines]
    seen = cluster.get("n3", b"k")
    for machine in cluster.machines.values():
        machine.rules = {**machine.rules, "quorum.clock_ahead_s": 2 * DAY_S}
    cluster.start_again(*cluster.machines)
    cluster.run(1.0)
    after = cluster.put("n2", b"k", b"after", w=3)
    brief = cluster.ask("n2", Write(operations=(Put(key=b"brief", value=b"here", ttl_ms=2_000),), acks=3))
    cluster.run(4.0)

    assert isinstance(ahead, Written)
    assert isinstance(refused, Refused)
    assert all("stamps ahead of the agreed time" in text and "quorum.clock_ahead_s" in text for text in told), told
    assert seen == b"ahead"
    assert isinstance(after, Written)
    assert isinstance(brief, Written)
    assert [cluster.held(node)[b"k"] for node in cluster.machines] == [b"after"] * 3
    assert [cluster.get(node, b"brief") for node in cluster.machines] == [None] * 3


def test_a_write_beyond_what_others_take_is_refused_and_kept_nowhere():
    cluster = Leaderless(3, clock_ahead_s=60.0)
    cluster.put("n2", b"k", b"old", w=3)
    set_clocks(cluster, 70.0, "n1", "n2")
    cluster.run(5.0)
    cluster.put("n1", b"other", b"ahead", w=3)
    set_clocks(cluster, 0.0)
    cluster.run(5.0)
    refused = cluster.put("n1", b"k", b"refused")
    held = [cluster.held(node)[b"k"] for node in cluster.machines]

    assert isinstance(refused, Refused)
    assert held == [b"old"] * 3

    cluster.run(20.0)

    assert isinstance(cluster.put("n1", b"k", b"taken", w=3), Written)


def test_while_agreed_time_leaps_nobody_stamps_what_another_declines():
    cluster = Leaderless(3, clock_ahead_s=60.0)
    outcomes = []
    for offset_s in (3600.0, 0.0, 3600.0, 0.0):
        set_clocks(cluster, offset_s, "n1")
        cluster.run(0.7)
        set_clocks(cluster, offset_s, "n2")
        for number in range(40):
            outcomes.append(cluster.put(f"n{1 + number % 3}", b"k%d" % len(outcomes), b"value", w=3))
            cluster.run(0.05)
    kept = {key for node in cluster.machines for key in cluster.held(node)}

    assert not [one for one in outcomes if isinstance(one, Unknown)]
    assert kept == {b"k%d" % number for number, one in enumerate(outcomes) if isinstance(one, Written)}


def test_a_process_that_stood_still_for_longer_than_the_grace_does_not_go_on():
    cluster = Leaderless(3, tombstone_grace_s=20.0)
    for key in KEYS:
        cluster.put("n1", key, b"value", w=3)
    cluster.pause("n3")
    for key in KEYS:
        cluster.delete("n1", key, w=2)
    cluster.run(50.0)
    cluster.resume("n3")
    cluster.run(5.0)

    assert [cluster.held(node) for node in ("n1", "n2")] == [{}, {}]
