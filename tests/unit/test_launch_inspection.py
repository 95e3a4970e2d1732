"""What `raftkv config check` finds, against real files, ports and certificates; and what `config show` tells."""

import datetime as dt
import os
import socket
import tomllib

import msgspec
import pytest
import trustme
from click.testing import CliRunner

from raftkv.cli.main import cli
from raftkv.core.config import parse_config
from raftkv.core.environment import read_config
from raftkv.core.rules import rules_of
from raftkv.instruments.local.nodes import loopback_sites
from raftkv.launch import settings
from raftkv.launch.inspection import inspect
from raftkv.storage.identity import begin_life


def run(*arguments):
    return CliRunner().invoke(cli, arguments, standalone_mode=False)


@pytest.fixture
def sites():
    return loopback_sites(2)


@pytest.fixture
def path(tmp_path, sites):
    nodes = "".join(f'[[node]]\nid = "{s.id}"\nhttp = "{s.http}"\npeer = "{s.peer}"\n' for s in sites)
    path = tmp_path / "c.toml"
    path.write_text(nodes)
    return path


def found(path, node_id=None, level=None):
    before = sorted(path.parent.rglob("*"))
    findings = list(inspect(path, node_id))
    assert sorted(path.parent.rglob("*")) == before
    assert not any("\n" in finding.text for finding in findings)
    return [finding.text for finding in findings if level in (None, finding.level)]


def certificate(directory, *names, ends=None):
    """Files of one certificate for ``names``, signed by an authority of its own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca")
    signed = authority.issue_cert(*names, not_after=ends)
    signed.private_key_pem.write_to_path(directory / "key")
    (directory / "key").chmod(0o600)
    (directory / "cert").write_bytes(b"".join(blob.bytes() for blob in signed.cert_chain_pems))


TLS = "".join(f'[{section}]\ntls_cert = "cert"\ntls_key = "key"\ntls_ca = "ca"\n' for section in ("http", "peers"))
ENDED = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def test_nothing_is_wrong_with_a_configuration_that_starts(path, sites):
    assert found(path, level="error") == []
    assert f"n1: http {sites[0].http} is free" in found(path)


def test_everything_that_is_wrong_is_told_at_once(path, tmp_path, sites):
    (tmp_path / "s").write_text("short")
    (tmp_path / "file").touch()
    path.write_text('[cluster]\nsecret_file = "s"\ndata_dir = "file/x"\n' + path.read_text())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", sites[1].peer.port))
        taken.listen()
        told = "\n".join(found(path, level="error"))

        assert found(path, "n1", level="error") == found(path, level="error")[:-1]
    assert f"{path}: cluster.data_dir: {tmp_path}/file is not a directory" in told
    assert f"{path}: cluster.secret_file: {tmp_path}/s is open to other users" in told
    assert f"n2: peer: cannot listen on {sites[1].peer}: Address already in use" in told


@pytest.mark.parametrize(("text", "node_id"), [("[", None), ("[raft]\nx = 1\n", None), ("", "n9")])
def test_a_text_that_is_wrong_or_a_node_that_is_not_in_it_is_one_error(path, text, node_id):
    path.write_text(text + path.read_text())

    assert len(found(path, node_id)) == len(found(path, node_id, level="error")) == 1


def test_certificates_that_fit_are_told_with_their_ends(path, tmp_path):
    certificate(tmp_path, "127.0.0.1", ends=dt.datetime(2099, 5, 6, tzinfo=dt.UTC))
    path.write_text(TLS + path.read_text())
    told = found(path, level="ok")

    assert sum("cert ends on 2099-05-06, in " in text for text in told) == 2
    assert found(path, level="error") == []


def test_a_certificate_that_ends_soon_is_a_warning(path, tmp_path):
    certificate(tmp_path, "127.0.0.1", ends=dt.datetime.now(dt.UTC) + dt.timedelta(days=6))
    path.write_text(TLS + path.read_text())

    assert sum("in 6 days" in text or "in 5 days" in text for text in found(path, level="warning")) == 2


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda home: certificate(home, "example.org"), "certificate is not valid for '127.0.0.1'"),
        (
            lambda home: certificate(home, "127.0.0.1", ends=ENDED),
            "expired",
        ),
        (lambda home: trustme.CA().cert_pem.write_to_path(home / "ca"), "unable to get local issuer certificate"),
        (lambda home: (home / "cert").write_text("x"), "NO_START_LINE"),
        (lambda home: (home / "key").write_text("x"), "NO_START_LINE"),
    ],
    ids=["another's name", "ended", "another authority", "no certificate", "no key"],
)
def test_a_certificate_that_will_not_do_is_an_error(path, tmp_path, spoil, reason):
    certificate(tmp_path, "127.0.0.1")
    spoil(tmp_path)
    path.write_text(TLS + path.read_text())
    told = found(path, level="error")

    assert told
    assert all(reason in text or "[SSL]" in text or "PEM" in text for text in told)


def test_a_certificate_that_is_missing_is_told_once(path):
    path.write_text('[http]\ntls_cert = "node.pem"\ntls_key = "node.key"\n' + path.read_text())
    told = [line for line in found(path, level="error") if "node.pem" in line]

    assert len(told) == 1
    assert told[0].endswith("No such file or directory")


def test_names_that_nobody_knows_are_a_warning_and_other_machines_are_no_error(path):
    path.write_text(path.read_text().replace("127.0.0.1", "no-such-host.invalid"))
    path.write_text('[auth]\nopen_to_anyone = true\n[cluster]\nsecret_file = "s"\n' + path.read_text())
    (path.parent / "s").touch(mode=0o600)
    (path.parent / "s").write_text(os.urandom(32).hex())

    assert found(path, level="error") == []
    assert any(text.startswith("no-such-host.invalid: ") for text in found(path, level="warning"))
    assert len(found(path, "n1", level="error")) == 2


def test_the_command_ends_with_0_or_2(path, sites):
    assert run("config", "check", str(path)).return_value == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", sites[0].http.port))
        taken.listen()
        ended = run("config", "check", str(path))

    assert ended.return_value == 2
    assert ended.stdout.count("\n") == ended.stdout.count("ok  ") + 1


def test_what_is_shown_is_the_configuration_again_with_its_sources(path, monkeypatch):
    path.write_text("[raft]\nheartbeat_s = 0.2\n" + path.read_text())
    monkeypatch.setenv("RAFTKV_CLUSTER__NAME", 'a "b"\\\x7f')
    shown = run("config", "show", str(path)).stdout

    assert parse_config(shown) == read_config(path, os.environ)
    assert f"heartbeat_s = 0.2 # {path}" in " ".join(shown.split())
    assert "# RAFTKV_CLUSTER__NAME" in shown
    assert 'mode = "raft" # default' in " ".join(shown.split())
    assert set(tomllib.loads(shown)) == {field.name for field in msgspec.structs.fields(type(parse_config(shown)))}


@pytest.mark.parametrize("key", ["s3_secret", "password", "s3_secret_access_key", "api_token"])
def test_a_secret_is_not_shown_and_the_name_of_its_file_is(key):
    assert settings._SECRET.search(key)
    assert not settings._SECRET.search(f"{key}_file")
    assert not settings._SECRET.search("token_ttl_s")


def test_data_that_is_not_the_nodes_own_is_an_error(path):
    home = path.parent / "data" / "n1"
    home.mkdir(parents=True)
    rules = rules_of(parse_config(path.read_text()))
    begin_life(home, "n1", rules, os.urandom, is_alone=True)

    assert f"n1: {home} is its own" in found(path, level="ok")
    home.rename(home.with_name("n2"))
    (error,) = found(path, level="error")
    assert "holds the data of another node" in error
    (home.with_name("n2") / "identity.json").unlink()
    (home.with_name("n2") / "log").touch()
    (error,) = found(path, level="error")
    assert "missing, though there is data beside it" in error
