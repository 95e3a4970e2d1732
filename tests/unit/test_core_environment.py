"""Variables of the environment over a configuration file: what they set, and how a wrong one is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from raftkv.core.config import ClusterConfig
from raftkv.core.environment import NODES, read_config, variable_of, without_configuration
from raftkv.core.errors import StartupError
from raftkv.launch.config_file import load_cluster

FILE = '[raft]\nheartbeat_s = 0.2\n[[node]]\nid = "n1"\nhttp = "127.0.0.1:8001"\npeer = "127.0.0.1:9001"\n'
LIST = '[{id = "a", http = "127.0.0.1:1", peer = "127.0.0.1:2", zone = "z"},\n {id = "b", http = "h:1", peer = "h:2"}]'
SECTIONS = [field for field in msgspec.structs.fields(ClusterConfig) if field.name != "node"]
KEYS = [(section.name, key) for section in SECTIONS for key in msgspec.structs.fields(section.type)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(FILE)
    return path


def refused(path, **environment):
    with pytest.raises(StartupError) as failed:
        read_config(path, environment)
    assert "\n" not in str(failed.value)
    return str(failed.value)


def written(value):
    """As a variable holds it: text as it stands, everything else as in TOML."""
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda one: getattr(one, "name", one))
def test_every_key_has_a_variable_that_takes_its_default_and_refuses_another_type(path, section, key):
    name = variable_of(f"{section}.{key.name}")

    assert name == f"RAFTKV_{section}__{key.name}".upper()
    section_of = getattr(read_config(path, {name: written(key.default)}), section)
    assert getattr(section_of, key.name) == key.default
    if not isinstance(key.default, str):
        assert refused(path, **{name: '{wrong = "type"}'}).startswith(f"{name}: ")


def test_a_variable_counts_instead_of_the_file_and_the_file_instead_of_the_default(path):
    environment = {"RAFTKV_RAFT__ELECTION_TIMEOUT_S": "1.2", "RAFTKV_CLUSTER__NAME": 'a "b" = [c]'}
    config = read_config(path, environment)

    assert (config.raft.election_timeout_s, config.raft.heartbeat_s) == (1.2, 0.2)
    assert config.cluster.name == 'a "b" = [c]'
    assert config.raft.snapshot_entries == ClusterConfig().raft.snapshot_entries
    assert read_config(path, {"RAFTKV_RAFT__HEARTBEAT_S": "0.1"}).raft.heartbeat_s == 0.1


def test_one_variable_holds_all_nodes_and_no_file_is_needed(path):
    open_to_all = {"RAFTKV_AUTH__OPEN_TO_ANYONE": "true", "RAFTKV_CLUSTER__SECRET_FILE": "s"}
    for given in (path, None):
        config = read_config(given, {NODES: LIST} | open_to_all)

        assert [(node.id, node.zone) for node in config.node] == [("a", "z"), ("b", "")]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("RAFTKV_RAFT__HEARTBEAT", "1", "there is no such key; did you mean RAFTKV_RAFT__HEARTBEAT_S?"),
        ("RAFTKV_raft__heartbeat_s", "1", "there is no such key; did you mean RAFTKV_RAFT__HEARTBEAT_S?"),
        ("RAFTKV_NODE__ID", "n1", "there is no such key"),
        ("RAFTKV_RAFT__HEARTBEAT_S", "fast", "'fast' is no value as TOML writes one"),
        ("RAFTKV_RAFT__HEARTBEAT_S", "", "'' is no value as TOML writes one"),
        ("RAFTKV_RAFT__HEARTBEAT_S", "1\nother = 2", "is no value as TOML writes one"),
        ("RAFTKV_RAFT__HEARTBEAT_S", "-1", "Expected `float` > 0.0"),
        ("RAFTKV_HTTP__WORKERS", "2.5", "Expected `int`, got `float`"),
        ("RAFTKV_AUTH__OPEN_TO_ANYONE", "yes", "'yes' is no value as TOML writes one"),
        ("RAFTKV_QUORUM__SEEDS", "[1]", "Expected `str`"),
        ("RAFTKV_CLUSTER__MODE", "raft5", "Invalid enum value 'raft5'"),
        ("RAFTKV_CLUSTER__NAME", "\udcff", "not UTF-8 text"),
        ("RAFTKV_HTTP__TLS_CERT", "a.pem", "tls_cert and tls_key come together"),
        (NODES, "n1=h:1", "is no value as TOML writes one"),
        (NODES, "[]", "node: at least one [[node]] is needed"),
        (NODES, '[{id = "n1"}]', "node[0].http: missing"),
        (
            NODES,
            '[{id = "n1", http = "127.0.0.1:1", peer = "127.0.0.1"}]',
            "node[0].peer: '127.0.0.1' is not of the form",
        ),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(path, name, text, reason):
    message = refused(path, **{name: text})

    assert message.startswith(f"{name}: ")
    assert reason in message


def test_what_the_file_gets_wrong_is_told_of_the_file(path):
    beside = refused(path, RAFTKV_RAFT__HEARTBEAT_S="0.9")

    assert beside.startswith(f"{path}: raft.election_timeout_s: must be more than three times")
    path.write_text("raft = 1\n" + FILE.partition("\n")[2].partition("\n")[2])

    assert refused(path, RAFTKV_RAFT__HEARTBEAT_S="1").startswith(f"{path}: raft: Expected `object`")
    assert refused(None) == "node: at least one [[node]] is needed (no configuration file is given)"


def test_what_a_start_finds_wrong_is_told_of_the_variable(path, monkeypatch):
    monkeypatch.setenv("RAFTKV_CLUSTER__SECRET_FILE", "s")

    with pytest.raises(StartupError, match=re.escape(f"RAFTKV_CLUSTER__SECRET_FILE: {path.parent}/s: No such file")):
        load_cluster(path)


def test_variables_of_clients_are_none_of_a_configuration_and_stay(path):
    environment = {"RAFTKV_SERVERS": "h:1", "RAFTKV_LOCK_TOKEN": "1", "RAFTKV_PORT": "tcp://10.0.0.1:8001"}
    ours = {"RAFTKV_RAFT__HEARTBEAT_S": "0.1", NODES: LIST}

    assert read_config(path, environment) == read_config(path, {})
    assert without_configuration(environment | ours) == environment


def test_paths_without_a_file_are_relative_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(NODES, '[{id = "n1", http = "127.0.0.1:1", peer = "127.0.0.1:2"}]')

    assert load_cluster(None).cluster.data_dir == str(tmp_path / "data")


@pytest.mark.parametrize("command", [["up"], ["node", "--id", "n1"], ["node"], ["proxy"]])
def test_commands_refuse_a_wrong_variable_with_status_2(path, command):
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "raftkv", command[0], str(path), *command[1:]],
        env=os.environ | {"RAFTKV_HTTP__WORKER": "1", "RAFTKV_ID": "n1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "RAFTKV_HTTP__WORKER: there is no such key; did you mean RAFTKV_HTTP__WORKERS?" in ended.stderr
    assert sorted(path.parent.iterdir()) == [path]


def test_the_example_in_the_documents_starts():
    text = (Path(__file__).parents[2] / "docs" / "configuration.rst").read_text()
    lines = re.findall(r"^   (RAFTKV_\w+)=(.*)$", text, flags=re.MULTILINE)
    example = {name: value.replace(", ...]", "]") for name, value in lines}
    config = read_config(None, example)

    assert config.auth.enabled
    assert [node.id for node in config.node] == ["n1", "n2"]
