"""Every command of etcdctl, given to raftkv and to real etcd: exit status, output and errors are the same.

What may differ stands in ``DIFFERENT``, each with its reason; nothing there may be equal. The programs are that of the
wheel (3.5) and, where there is one on the path, another (Debian's is 3.4).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.etcd_clusters import EtcdCluster, RaftkvCluster, RealEtcd
from tests.integration.etcd_oracle import program

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

TYPED = r"""
version
put a 1
put a 2 --prev-kv
put b --ignore-value
put b x
put b --ignore-value --prev-kv
put c <piped
get a
get a -w json
get a -w fields
get a -w simple --print-value-only
get a --hex
get a c
get --prefix ""
get --from-key b
get --prefix "" --keys-only
get --prefix "" --limit 1 --order DESCEND --sort-by MODIFY
get --prefix "" --sort-by VALUE --order DESCEND
get --prefix "" --count-only -w fields
get --prefix "" --count-only -w json
get a --rev 2
get a --rev 99
get a --consistency s
get a --consistency z
get missing
get missing -w json
get
put
put onlykey
del missing
del a --prev-kv
del --prefix zzz
del --from-key c -w json
put k1 v1
put k2 v2
put k3 v3
del k1 k3
txn <mod("k3") > "0"\n\nput k3 t1\nget k3\n\nput k3 t2\n\n
txn <value("k3") = "nope"\n\nput k3 t1\n\nget k3\ndel k3 --prev-kv\n\n
txn <ver("k3") = "0"\n\n\n\nget k3\n\n
txn <create("q") = "0"\n\nput q 1\nput q 2\n\n\n
txn <bad\n\n\n
txn -w json <\nput q 1\n\n\n
compaction 3
compaction 3
compaction 999
compaction
get a --rev 2
lease grant
lease grant 0
lease grant abc
lease grant 99999999999
lease list
lease revoke 123
lease timetolive 123
lease timetolive 123 -w json
lease keep-alive --once 123
lease keep-alive zz
put l v --lease=123
put l v --lease=zz
member list
member list -w table
member list -w fields
member list -w json
member promote 1
member remove 1
member update 1 --peer-urls http://127.0.0.1:1
member add
member add x
endpoint health
endpoint health --cluster
endpoint health -w json
endpoint status
endpoint status -w json
endpoint status -w table
endpoint status -w fields
endpoint hashkv
endpoint hashkv -w json
alarm list
alarm disarm
defrag
defrag --cluster
move-leader 1
move-leader zz
role add r
role add r
role list
role grant-permission r readwrite k1
role grant-permission r read --prefix p/
role grant-permission r write f --from-key
role grant-permission r bad k
role grant-permission nor read k
role get r
role get r -w json
role get nor
role revoke-permission r k1
role revoke-permission r nokey
role revoke-permission r --prefix p/
role get r
role get root
user add u:password1
user add u:password1
user add n --no-password
user add i --interactive=false <password2
user list
user get u
user get u --detail
user get nou
user grant-role u r
user grant-role u nor
user grant-role nou r
user get u
user get u -w json
user get u --detail
user revoke-role u r
user revoke-role u r
user passwd u --interactive=false <password3
user passwd nou --interactive=false <password3
user delete n
user delete nou
auth enable
auth disable
auth enable
user add root:rootpassword
user grant-role root root
auth enable
auth enable
auth status
get k1
get k1 --user u:wrong
get k1 --user u:password3
get k1 --user root:rootpassword
put k1 v --user u:password3
user grant-role u r --user root:rootpassword
role grant-permission r readwrite k1 --user root:rootpassword
put k1 v --user u:password3
get k1 --user u --password password3
get k1 --user u:password3 --from-key
member list --user u:password3
endpoint status --user u:password3
endpoint health --user u:password3
endpoint health
compaction 5 --user u:password3
lease grant 100 --user u:password3
lease list --user u:password3
defrag --user u:password3
alarm list --user u:password3
user list --user u:password3
user get u --user u:password3
role get r --user u:password3
role list --user u:password3
auth disable --user u:password3
auth disable --user root:rootpassword
auth status
user delete root
role delete r
role delete r
role list
user list
check bad
lock
elect
watch
watch x --rev 1 --progress-notify bad
snapshot save
snapshot status nofile
snapshot save s.db
get k1 --command-timeout=5s --dial-timeout=1s
get k1 --endpoints=127.0.0.1:1 --command-timeout=1s --dial-timeout=1s
"""
"""A command a line; what stands after ``<`` is what it reads."""

DIFFERENT = {
    "endpoint hashkv": "hashes are each server's own",
    "endpoint hashkv -w json": "likewise",
    "role get root": "the role root is built in",
    "role get r -w json": "a change of users is a revision",
    "user get u -w json": "likewise",
    "auth status": "likewise, and authRevision is the last of them",
    "compaction 5 --user u:password3": "compaction takes the role root",
    "defrag --user u:password3": "permission denied is code 7 everywhere, also where etcd says code 2",
}

MASKS = (
    (r"\b[1-9]\d{14,19}\b", "0"),
    (r"\b[0-9a-f]{14,16}\b", "ID"),
    (r"\d+(\.\d+)?(µs|ms|s)\b", "TIME"),
    (r"(\d+\.)?\d+ [kM]?B\b", "SIZE"),
    (r"\b3\.5\.\d+\b", "VERSION"),
    (r'"?\b(raft_?term|RaftTerm|raft(Applied)?(_i|I)ndex|dbSize(InUse)?)\b"? ?: ?"?\d+"?', '"PLACE":0'),
)
WIDTHS = ((r" +", " "), (r"-+", "-"))
"""Of what tells of members: columns are as wide as ids, which may have 15 digits."""

STATUS_MASKS = ((r"\b(true|false)\b", "BOOL"), (r"\b\d+\b", "N"))
"""Who leads, terms, and places in the log."""


@pytest.fixture(params=["wheel", "path"])
def etcdctl(request: pytest.FixtureRequest) -> str:
    found = program("etcdctl") if request.param == "wheel" else shutil.which("etcdctl")
    if found is None:
        pytest.skip("no etcdctl on the path")
    return found


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[EtcdCluster, EtcdCluster]]:
    with ExitStack() as open_:
        kinds = {"raftkv": RaftkvCluster, "etcd": RealEtcd}
        for name in kinds:
            (tmp_path / name).mkdir()
        ours, theirs = (open_.enter_context(kind(tmp_path / name)) for name, kind in kinds.items())
        yield ours, theirs


def test_every_command_says_the_same_as_with_real_etcd(servers: tuple[EtcdCluster, EtcdCluster], etcdctl: str) -> None:
    ours, theirs = servers
    unlike: dict[str, str] = {}
    for line in TYPED.strip().splitlines():
        one, other = said(ours, etcdctl, line), said(theirs, etcdctl, line)
        if one != other:
            unlike[line] = f"{line}\nraftkv: {one}\netcd:   {other}"

    assert not unlike.keys() - DIFFERENT.keys(), "\n".join(
        text for line, text in unlike.items() if line not in DIFFERENT
    )
    assert DIFFERENT.keys() - unlike.keys() <= {"auth status"}  # which etcdctl 3.4 does not know


def said(cluster: EtcdCluster, etcdctl: str, line: str) -> tuple[int, list[str]]:
    """The status, and what was printed, but for what is each server's own."""
    typed, _, read = line.partition(" <")
    words = shlex.split(typed)
    where = [] if "--endpoints" in typed else [f"--endpoints={','.join(f'http://{host}' for host in cluster.hosts)}"]
    patience = [] if "--command-timeout" in typed else ["--command-timeout=30s", "--dial-timeout=30s"]
    done = subprocess.run(
        [etcdctl, *where, *patience, *words],
        input=read.encode().decode("unicode_escape").encode(),
        capture_output=True,
        timeout=60,
        check=False,
        cwd=cluster.home,
        env=os.environ | {"ETCDCTL_API": "3"},
    )
    printed = (done.stdout + done.stderr).decode(errors="replace")
    for node, site in cluster.sites.items():
        printed = printed.replace(str(site.http), f"CLIENTS OF {node}").replace(str(site.peer), f"PEERS OF {node}")
    masks = MASKS + (STATUS_MASKS if words[:2] == ["endpoint", "status"] else ()) + (WIDTHS if words[0] in MANY else ())
    for pattern, name in masks:
        printed = re.sub(pattern, name, printed)
    lines = [plain(one) for one in printed.splitlines()]
    return done.returncode, sorted(lines) if words[0] in MANY else lines


MANY = ("member", "endpoint", "defrag", "alarm")
"""Commands that tell something of each node, in the order of ids or of answers."""


def plain(line: str) -> str:
    """A line of the client's log is the error in it; JSON of each node is in the order of its text."""
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if isinstance(found, dict) and "members" in found:
        found["members"].sort(key=json.dumps)
    if isinstance(found, list):
        found.sort(key=json.dumps)
    return str(found["error"]) if isinstance(found, dict) and "error" in found else json.dumps(found)
