"""Scenarios: those that are shipped can be run, and what is wrong with one is refused by name."""

import msgspec
import pytest

from raftkv.instruments.lab.nemesis import Planned
from raftkv.instruments.lab.scenario import PROBED_S, ScenarioError, changed, load, parse, shipped

PLAIN = """
title = "t"
expect = "e"
duration_s = 5
[[variant]]
name = "A variant, plain"
about = "a"
"""


def test_every_shipped_scenario_is_valid_has_something_to_compare_and_something_to_expect():
    scenarios = shipped()

    assert len(scenarios) >= 10
    for name, scenario in scenarios.items():
        assert len(scenario.variant) >= 2, name
        assert scenario.expect.strip(), name
        assert load(name)[::2] == (name, scenario)


def test_variants_differ_in_what_they_say_and_share_the_rest():
    scenario = shipped()["comparison"]
    workloads = [scenario.workload_of(variant) for variant in scenario.variant]

    assert {workload.seed for workload in workloads} == {scenario.seed}
    assert {workload.rate_per_s for workload in workloads} == {scenario.workload.rate_per_s}
    assert {workload.query for workload in workloads} == {"", "consistency=local"}
    assert {workload.update for workload in workloads} == {"put", "compare_and_set", "context"}


def test_a_variant_has_a_folder_name_and_its_configuration_as_toml():
    text = PLAIN + 'mode = "quorum"\nconfig.quorum = { r = 1, conflicts = "siblings", sloppy = false }\n'
    (variant,) = parse(text).variant

    assert variant.slug == "a-variant-plain"
    assert variant.sections() == '[quorum]\nr = 1\nconflicts = "siblings"\nsloppy = false\n'


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("=", "not valid TOML"),
        ("red = 1", "variant[0].red: unknown key"),
        ('mode = "paxos"', "variant[0].mode"),
        ('read = "consistancy=local"', "variant[0].read: unknown: consistancy"),
        ('write = "w"', "variant[0].write: 'w' is not of the form"),
        ('update = "context"', "variant[0].update: raft mode has put and compare_and_set"),
        ('mode = "quorum"\nupdate = "compare_and_set"', "variant[0].update: quorum mode has put and context"),
        ("config.raft.heartbeat = 1", "variant[0].config.raft.heartbeat: unknown key"),
        ("config.raft.heartbeat_s = 1", "variant[0].config.raft.election_timeout_s: must be more"),
        ('config.cluster.name = "x"', "variant[0].config: cluster and node are made"),
        ('[[variant]]\nname = "a VARIANT plain"\nabout = "b"', "variant[1].name: 'a VARIANT plain' is too much like"),
        ('[[fault]]\nat_s = 1\nfor_s = 5\nfault = { kind = "kill", nodes = ["n1"] }', "fault[0].for_s: it would last"),
        ('[[fault]]\nat_s = 1\nfor_s = 1\nfault = { kind = "flood" }', "fault[0].fault"),
        ("[workload]\nmix = { add = 1, put = 1 }", "workload.mix: add goes with no other writes"),
        ("[workload]\nclient = 3", "workload.client: unknown key"),
    ],
)
def test_what_is_wrong_is_refused_by_name(more, message):
    with pytest.raises(ScenarioError) as refused:
        parse(PLAIN + more)

    assert str(refused.value).startswith(message)


def test_compare_and_set_is_not_asked_of_a_mode_that_has_none():
    with pytest.raises(ScenarioError, match=r"workload\.mix"):
        parse(PLAIN + 'mode = "quorum"\n[workload]\nmix = { compare_and_set = 1 }')


def test_a_scenario_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(ScenarioError, match="comparison"):
        load("nonsense")


def test_a_scenario_of_a_file_is_found_by_its_path_and_refused_with_it(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(PLAIN)
    bad.write_text("title = 1")

    assert load(str(good)) == ("good", PLAIN, parse(PLAIN))
    with pytest.raises(ScenarioError, match=r"bad\.toml: title"):
        load(str(bad))


def test_seed_duration_and_variants_can_be_changed_but_faults_must_fit():
    scenario = shipped()["comparison"]
    other = changed(scenario, seed=99, duration_s=60.0, names=["raft"])

    assert (other.seed, other.duration_s, [each.name for each in other.variant]) == (99, 60.0, ["raft"])
    assert all(isinstance(planned, Planned) for planned in other.fault)
    with pytest.raises(ScenarioError, match="fault"):
        changed(scenario, duration_s=3.0)
    with pytest.raises(ScenarioError, match="no variant 'rafd'"):
        changed(scenario, names=["rafd"])


def test_measuring_delays_first_is_announced():
    scenario = shipped()["staleness"]
    plain = msgspec.structs.replace(scenario, predicts_staleness=False)
    probed, unprobed = (sum(map(each.expected_s, each.variant)) for each in (scenario, plain))

    assert {variant.mode for variant in scenario.variant} == {"raft", "quorum"}
    assert probed == unprobed + sum(variant.mode == "quorum" for variant in scenario.variant) * PROBED_S


@pytest.mark.parametrize(
    ("variant", "is_promised"),
    [
        ("promises_linearizable = true", True),
        ('read = "consistency=local"', False),
        ('mode = "quorum"', False),
        ('mode = "quorum"\nconfig.quorum = { sloppy = false }', True),
        ('mode = "quorum"\nconfig.quorum = { sloppy = false, r = 1 }', False),
        ('mode = "quorum"\nconfig.quorum = { sloppy = false, r = 1, w = 3 }', True),
        ('mode = "quorum"\nconfig.quorum = { sloppy = false }\nread = "r=1"', False),
        ('mode = "quorum"\nread = "sloppy=0"\nwrite = "sloppy=0"', True),
        ('mode = "quorum"\nread = "sloppy=0"', False),
        ('mode = "quorum"\nconfig.quorum = { sloppy = false }\nread = "n=2"', False),
    ],
)
def test_fresh_answers_are_promised_by_raft_and_by_strict_quorums_that_overlap(variant, is_promised):
    (found,) = parse(f"{PLAIN}{variant}").variant

    assert found.promises_fresh_reads == is_promised
