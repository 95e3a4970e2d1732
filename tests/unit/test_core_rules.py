"""Every key of the configuration is a rule of the cluster or a node's own affair."""

import msgspec
import pytest

from raftkv.core.config import ClusterConfig, NodeSection, parse_config
from raftkv.core.rules import ALWAYS, NAMED, OWN, TOGETHER, differences, rules_of

NODES = "".join(f'[[node]]\nid = "n{one}"\nhttp = "127.0.0.1:{one}"\npeer = "127.0.0.1:1{one}"\n' for one in (1, 2, 3))


def rules(text="", mode="raft"):
    return rules_of(parse_config(f'[cluster]\nmode = "{mode}"\n{text}\n{NODES}'))


def test_every_key_is_a_rule_or_says_why_it_is_none():
    sections = {section.name: section.type for section in msgspec.structs.fields(ClusterConfig)}
    sections["node"] = NodeSection
    keys = {f"{name}.{key.name}" for name, section in sections.items() for key in msgspec.structs.fields(section)}
    named = {*NAMED, *(name for table in (ALWAYS, TOGETHER) for names in table.values() for name in names)}

    assert named | set(OWN) == keys
    assert not named & set(OWN)
    assert all(OWN.values())


@pytest.mark.parametrize(
    ("mode", "text", "told"),
    [
        ("raft", "[raft]\nidempotency_keys = 1", "raft.idempotency_keys 1 (here 100000)"),
        ("raft", "[raft]\nelection_timeout_s = 1.5", "raft.election_timeout_s 1.5 (here 1.0)"),
        ("raft", "[http]\nmax_value_bytes = 99", "http.max_value_bytes 99 (here 1048576)"),
        ("raft", "[http]\nmax_key_bytes = 99", "http.max_key_bytes 99 (here 1024)"),
        ("raft", "[http]\nmax_batch_operations = 9", "http.max_batch_operations 9 (here 1000)"),
        ("quorum", "[http]\nmax_batch_operations = 9", "http.max_batch_operations 9 (here 1000)"),
        ("quorum", "[quorum]\nvnodes = 7", "quorum.vnodes 7 (here 100)"),
        ("quorum", "[quorum]\nn = 2\nr = 1\nw = 2", "quorum.n 2 (here 3), quorum.r 1 (here 2)"),
        ("quorum", "[quorum]\nw = 1", "quorum.w 1 (here 2)"),
        ("quorum", '[quorum]\nconflicts = "siblings"', "quorum.conflicts siblings (here lww)"),
    ],
)
def test_what_differs_is_told_with_both_values(mode, text, told):
    ours, theirs = rules(mode=mode), rules(text, mode)

    assert differences(theirs.all, ours.all) == told


def test_what_a_node_may_have_its_own_way_changes_no_rule():
    assert rules("[raft]\nheartbeat_s = 0.2\n[http]\nworkers = 3") == rules()


def test_a_rule_that_one_side_does_not_know_differs():
    assert differences({"a": 1}, {}) == "a 1 (here unknown)"
    assert differences({}, {"a": 1}) == "a unknown (here 1)"


def test_no_rule_came_or_went_since_nodes_of_this_protocol_were_released():
    """One that a side does not know differs, so nodes that hold another set of rules take no part with these."""
    common = {"http.max_value_bytes", "http.max_key_bytes", "http.max_batch_operations", "formats.hash", *NAMED}

    assert set(rules().all) == common | {
        "members",
        "raft.clock_drift_bound",
        "raft.election_timeout_s",
        "raft.idempotency_keys",
        "raft.idempotency_window_s",
    }
    assert set(rules(mode="quorum").all) == common | {
        "quorum.clock_ahead_s",
        "quorum.conflicts",
        "quorum.max_siblings",
        "quorum.n",
        "quorum.r",
        "quorum.tombstone_grace_s",
        "quorum.vnodes",
        "quorum.w",
    }
