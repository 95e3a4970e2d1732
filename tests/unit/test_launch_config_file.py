"""Configuration files against a real file system: what is refused, and that a refusal leaves nothing behind."""

import os
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import msgspec
import pytest

from raftkv.core.config import ClusterConfig, ClusterSection, NodeSection, parse_config
from raftkv.core.errors import StartupError
from raftkv.launch import config_file
from raftkv.launch.config_file import embedded_config, ensure_secret, load_cluster

CONF = Path(__file__).parents[2] / "conf"
NODES = '[[node]]\nid = "n1"\nhttp = "127.0.0.1:8001"\npeer = "127.0.0.1:9001"\n'
AUTH = "[auth]\nenabled = true\n"
ETCD = 'etcd = "127.0.0.1:2379"\n'


def write(directory: Path, text: str) -> Path:
    path = directory / "c.toml"
    path.write_text(text)
    return path


def refused(path: Path) -> str:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(StartupError) as failed:
        load_cluster(path)
    assert sorted(path.parent.rglob("*")) == before
    message = str(failed.value)
    assert "\n" not in message
    return message


def test_paths_are_relative_to_the_file(tmp_path):
    config = load_cluster(write(tmp_path, '[cluster]\ndata_dir = "d"\n' + NODES))

    assert config.cluster.data_dir == str(tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("[cluster]\nfoo = 1\n" + NODES, "cluster.foo", "unknown key; known are name, mode, data_dir, secret_file"),
        ("[quorum]\ngossip = 1\n" + NODES, "quorum.gossip", "unknown key; did you mean gossip_s?"),
        (NODES.replace("[[node]]", "[[nodes]]"), "nodes", "unknown key; did you mean node?"),
        (NODES + 'zones = "a"\n', "node[0].zones", "unknown key; did you mean zone?"),
        ('[cluster]\nmode = "quorom"\n' + NODES, "cluster.mode", "'quorom'; known are raft, quorum"),
        (NODES.replace("127.0.0.1:8001", "0.0.0.0:8001"), "node[0].http", "belongs in http_bind"),
        (NODES.replace("127.0.0.1:9001", "[::]:9001"), "node[0].peer", "belongs in peer_bind"),
        ('[raft]\nheartbeat_s = "x"\n' + NODES, "raft.heartbeat_s", "Expected `float`"),
        ('[cluster]\nmode = "quorum"\n' + NODES, "quorum.n", "3 replicas need as many nodes, but there are 1"),
        (NODES + NODES, "node[1].id", "used twice"),
        ('[raft]\npreferred_leader = "n9"\n' + NODES, "raft.preferred_leader", "there is no [[node]] with the id 'n9'"),
        (NODES + NODES.replace("n1", "n2"), "node[1].http", "address 127.0.0.1:8001 is also node[0].http"),
        (NODES.replace("127.0.0.1:9001", "10.0.0.1:9001"), "cluster.secret_file", "required"),
        ('[cluster]\nsecret_file = "s"\n' + NODES, "cluster.secret_file", "No such file"),
        ('[cluster]\ndata_dir = ""\n' + NODES, "cluster.data_dir", "empty"),
        ('[cluster]\ndata_dir = "a\\u0000b"\n' + NODES, "cluster.data_dir", "the character NUL"),
        ('[cluster]\nsecret_file = "a\\u0000b"\n' + NODES, "cluster.secret_file", "the character NUL"),
        ('[cluster]\ndata_dir = "' + "d/" * 2500 + '"\n' + NODES, "cluster.data_dir", "more than 3584 bytes"),
        ('[cluster]\nsecret_file = "' + "d/" * 2500 + '"\n' + NODES, "cluster.secret_file", "File name too long"),
        ('[cluster]\ndata_dir = "c.toml/x"\n' + NODES, "cluster.data_dir", "not a directory"),
        ('[http]\ntls_cert = "a"\ntls_key = "b"\n' + NODES, "http.tls_cert", "No such file"),
        ('[http]\ntls_ca = "a"\n' + NODES, "http.tls_ca", "of no use without tls_cert"),
        ('[peers]\ntls_cert = "a"\ntls_key = "b"\ntls_ca = "c"\n' + NODES, "peers.tls_cert", "No such file"),
        ('[http]\ntls_client_ca = "a"\n' + NODES, "http.tls_client_ca", "of no use without tls_cert"),
        (NODES.replace("127.0.0.1:8001", "10.0.0.1:8001"), "auth.enabled", "node[0] serves clients at 10.0.0.1:8001"),
        (NODES.replace("127.0.0.1:8001", "n1:8001"), "auth.enabled", "or open_to_anyone = true if whoever reaches it"),
        (NODES + 'http_bind = "*:8001"\n', "auth.enabled", "under [auth] write enabled = true and root_password_file"),
        (NODES + 'etcd = "0.0.0.0:2379"\n', "node[0].etcd", "belongs in etcd_bind"),
        (NODES + 'etcd = "127.0.0.1:9001"\n', "node[0].etcd", "address 127.0.0.1:9001 is also node[0].peer"),
        (NODES + 'etcd_bind = "*:2379"\n', "node[0].etcd_bind", "of no use without etcd"),
        ("[etcd]\nenabled = false\n" + NODES + ETCD, "node[0].etcd", "of no use where etcd.enabled is false"),
        ('[cluster]\nmode = "quorum"\n' + NODES + ETCD, "node[0].etcd", "of no use in quorum mode"),
        (NODES + ETCD + 'etcd_bind = "*:2379"\n', "auth.enabled", "node[0] serves clients at *:2379, which is not"),
        ("[auth]\nenabled = true\nopen_to_anyone = true\n" + NODES, "auth.open_to_anyone", "write one of the two"),
        ('[auth]\nroot_password_file = "p"\n' + NODES, "auth.root_password_file", "of no use without auth.enabled"),
        (AUTH + 'root_password_file = "p"\n' + NODES, "auth.root_password_file", "No such file"),
        ("", "node", "at least one"),
        ("[", "not valid TOML", ""),
    ],
)
def test_a_refusal_is_one_line_with_file_key_and_reason(tmp_path, text, key, reason):
    path = write(tmp_path, text)
    message = refused(path)

    assert message.startswith(f"{path}: {key}")
    assert reason in message


def test_a_node_that_joins_needs_no_other_in_its_file(tmp_path):
    path = write(tmp_path, '[cluster]\nmode = "quorum"\n[quorum]\nseeds = ["h:1"]\n' + NODES)

    assert load_cluster(path).quorum.seeds == ("h:1",)
    assert load_cluster(path, seeds=("h:2", "h:1", "h:3")).quorum.seeds == ("h:1", "h:2", "h:3")


@pytest.mark.parametrize(
    ("mode", "seed", "reason"), [("raft", "h", "not of the form"), ("quorum", "h", "not of the form")]
)
def test_what_cannot_be_joined_is_refused(tmp_path, mode, seed, reason):
    path = write(tmp_path, f'[cluster]\nmode = "{mode}"\n' + NODES)

    with pytest.raises(StartupError, match=f"--join: .*{reason}"):
        load_cluster(path, seeds=(seed,))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(StartupError, match=r"x\.toml: No such file"):
        load_cluster(tmp_path / "x.toml")
    (tmp_path / "c.toml").write_bytes(b"\xff")
    assert "not UTF-8" in refused(tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"x" * 15 + b"\n\n\n", 0o600, "15 bytes; at least 32 are needed (make one with: openssl rand -hex 32)"),
        (b"password12345678", 0o600, "16 bytes"),
        (b"x" * 32, 0o600, "only 1 different characters"),
        (b"abcdefg" * 10, 0o600, "only 7 different characters"),
        (b"x" * 32, 0o644, "chmod 600"),
        (b"x" * 32, 0o620, "chmod 600"),
    ],
)
def test_a_weak_or_open_secret_is_refused(tmp_path, content, mode, reason):
    (tmp_path / "s").write_bytes(content)
    (tmp_path / "s").chmod(mode)

    assert reason in refused(write(tmp_path, '[cluster]\nsecret_file = "s"\n' + NODES))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1:8001", "localhost:8001"),
        ("localhost:8001", "[::1]:8001"),
        ("[::1]:8001", "[0:0:0:0:0:0:0:1]:8001"),
        ("127.0.0.1:8001", "[::ffff:127.0.0.1]:8001"),
        ("db.example:8001", "DB.Example.:8001"),
        ("[2001:db8::a]:8001", "[2001:DB8:0::000A]:8001"),
    ],
)
def test_one_address_in_two_spellings_is_one_address(tmp_path, first, second):
    nodes = NODES.replace("127.0.0.1:8001", first) + NODES.replace("127.0.0.1:8001", second).replace("n1", "n2")
    message = refused(write(tmp_path, "[auth]\nopen_to_anyone = true\n" + nodes.replace("9001", "9002", 1)))

    assert "node[1].http: address" in message
    assert "is also node[0].http" in message


def test_nowhere_has_more_than_one_spelling_too(tmp_path):
    assert "belongs in http_bind" in refused(write(tmp_path, NODES.replace("127.0.0.1:8001", "[0:0::0]:8001")))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[cluster]\nsecret_file = "pipe"\n', "cluster.secret_file"),
        ('[auth]\nenabled = true\nroot_password_file = "pipe"\n', "auth.root_password_file"),
        ('[http]\ntls_cert = "pipe"\ntls_key = "pipe"\n', "http.tls_cert"),
    ],
)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, text, key):
    os.mkfifo(tmp_path / "pipe", 0o600)

    assert f"{key}: {tmp_path}/pipe: not a regular file" in refused(write(tmp_path, text + NODES))


def test_a_configuration_without_an_end_is_refused_before_it_fills_the_memory(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"#" * (1 << 20) + b"\n" + NODES.encode())

    assert "more than 1 MiB are no configuration" in refused(tmp_path / "c.toml")
    with pytest.raises(StartupError, match="/dev/zero: more than 1 MiB"):
        load_cluster(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"seven77\n", 0o600, "has 7 characters; a password has 8 at least"),
        (b"xxxxxxxxxxxx", 0o600, "only one character, again and again"),
        (b"two lines\nand more\n", 0o600, "more than one line"),
        (b"\xff" * 10, 0o600, "is not UTF-8 text"),
        (b"a" + b"b" * 512, 0o600, "more than 512 bytes"),
        (b"tab\tulator", 0o600, "cannot be typed"),
        (b"correct horse\n", 0o644, "chmod 600"),
    ],
)
def test_a_weak_or_open_root_password_is_refused(tmp_path, content, mode, reason):
    (tmp_path / "p").write_bytes(content)
    (tmp_path / "p").chmod(mode)

    assert reason in refused(write(tmp_path, AUTH + 'root_password_file = "p"\n' + NODES))


def test_who_listens_beyond_loopback_says_who_may_ask(tmp_path):
    path = write(tmp_path, "[auth]\nopen_to_anyone = true\n" + NODES.replace("127.0.0.1:8001", "10.0.0.1:8001"))

    assert load_cluster(path).node[0].http == "10.0.0.1:8001"


@pytest.mark.parametrize("section", ["http", "peers"])
def test_a_tls_key_that_others_may_read_is_refused(tmp_path, section):
    for name in ("cert", "key", "ca"):
        (tmp_path / name).touch(mode=0o644)
    tls = f'[{section}]\ntls_cert = "cert"\ntls_key = "key"\ntls_ca = "ca"\n'

    assert f"{section}.tls_key: {tmp_path}/key is open to other users (mode 0644)" in refused(
        write(tmp_path, tls + NODES)
    )

    (tmp_path / "key").chmod(0o600)
    assert load_cluster(tmp_path / "c.toml").http.tls_key in ("", str(tmp_path / "key"))


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "y" * 300 + "/b"])
def test_a_name_that_no_file_system_holds_is_refused_with_its_key(tmp_path, name):
    for text, key in (
        (f'[cluster]\ndata_dir = "{name}"\n', "cluster.data_dir"),
        (f'[cluster]\nsecret_file = "{name}"\n', "cluster.secret_file"),
    ):
        assert key in refused(write(tmp_path, text + NODES))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("a..b", "an empty label"),
        (".a", "an empty label"),
        ("x" * 70, "a label of 70 characters"),
        ("\u00fc" * 62, "no name that DNS can hold"),
    ],
)
def test_a_host_that_is_no_name_is_refused_with_its_key(tmp_path, host, reason):
    text = refused(write(tmp_path, NODES.replace("127.0.0.1:8001", f"{host}:8001")))

    assert "node[0].http: the host" in text
    assert reason in text


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_a_file_is_utf_8_whatever_the_locale_and_may_begin_with_a_mark(tmp_path, locale, mark):
    (tmp_path / "c.toml").write_bytes(mark + f'# \u00fc\n[cluster]\nname = "K\u00f6ln"\n{NODES}'.encode())
    code = "import sys, pathlib; from raftkv.launch.config_file import load_cluster as l;"
    code += "print(ascii(l(pathlib.Path(sys.argv[1])).cluster.name))"
    surroundings = {**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code, str(tmp_path / "c.toml")]
    answer = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True)

    assert answer.stdout == "'K\\xf6ln'\n"


def test_a_directory_that_cannot_be_written_is_refused_even_to_root(tmp_path, monkeypatch):
    path = write(tmp_path, '[cluster]\ndata_dir = "deep/er"\n' + NODES)
    monkeypatch.setattr(config_file, "_why_unwritable", lambda directory: f"asked of {directory.name}")

    assert f"cannot be written: asked of {tmp_path.name}" in refused(path)


def test_a_directory_of_another_user_cannot_be_written(tmp_path):
    """Asked in a process without privileges, since root may write anywhere."""
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        assert config_file._why_unwritable(tmp_path)
        return
    code = (
        "import os, pathlib, sys; from raftkv.launch import config_file;"
        "os.setgid(65534); os.setuid(65534);"
        "print(config_file._why_unwritable(pathlib.Path('/')))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout == "Permission denied\n"


def one_node(directory: Path) -> ClusterConfig:
    return ClusterConfig(
        cluster=ClusterSection(data_dir=str(directory)),
        node=(NodeSection(id="n1", http="127.0.0.1:1", peer="127.0.0.1:2"),),
    )


def test_nodes_that_start_together_agree_on_one_secret_and_never_see_half_of_it(tmp_path):
    config = one_node(tmp_path / "data")
    seen = []

    def start():
        ensure_secret(config)
        seen.append((tmp_path / "data" / "secret").read_bytes())

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(seen)) == 1
    assert len(seen) == 16
    assert len(seen[0].strip()) == 64
    assert (tmp_path / "data" / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret"]


def test_a_cluster_with_a_secret_is_given_none(tmp_path):
    config = one_node(tmp_path / "data")
    named = msgspec.structs.replace(config.cluster, secret_file=str(tmp_path / "s"))
    ensure_secret(msgspec.structs.replace(config, cluster=named))

    assert not (tmp_path / "data").exists()


def test_the_embedded_cluster_is_written_once_and_can_be_changed(tmp_path):
    path = embedded_config(tmp_path / "raftkv-data")
    config = load_cluster(path)

    assert [node.http for node in config.node] == ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"]
    assert [node.peer for node in config.node] == ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"]
    assert Path(config.cluster.data_dir) == tmp_path / "raftkv-data"
    path.write_text(path.read_text().replace("8003", "8013"))
    assert load_cluster(embedded_config(tmp_path / "raftkv-data")).node[2].http == "127.0.0.1:8013"


def test_the_reference_configuration_names_every_key_with_its_default():
    text = (CONF / "reference.toml").read_text()
    config, document = parse_config(text), tomllib.loads(text)

    assert msgspec.structs.replace(config, node=()) == ClusterConfig()
    assert set(document) == {field.name for field in msgspec.structs.fields(ClusterConfig)}
    for section, keys in document.items():
        named = set(keys[0]) if section == "node" else set(keys)
        kind = NodeSection if section == "node" else type(getattr(config, section))
        assert named == {field.name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(
    ("name", "count"), [("raft-3.toml", 3), ("raft-5.toml", 5), ("quorum-3.toml", 3), ("quorum-5.toml", 5)]
)
def test_the_shipped_configurations_start(name, count):
    assert len(load_cluster(CONF / name).node) == count
