"""Streams, deadlines, and nodes without a leader: the same of real etcd and of raftkv, three nodes of each."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import grpc
import pytest
import requests

from raftkv.etcd import messages, protobuf
from raftkv.etcd.schema import Message
from raftkv.instruments.local.nodes import wait_until
from tests.integration.etcd_clusters import EtcdCluster, RaftkvCluster, RealEtcd
from tests.integration.etcd_oracle import encoded
from tests.integration.etcd_served import Watcher
from tests.integration.processes import running

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0
REVISIONS = {"revision", "create_revision", "mod_revision"}


@pytest.fixture(scope="module", params=[RealEtcd, RaftkvCluster])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with request.param(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def channel(cluster: EtcdCluster) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(cluster.hosts[0]) as channel:
        yield channel


def done(cluster: EtcdCluster, path: str, body: Any) -> dict[str, Any]:
    told = cluster.ask("n1", path, body)
    assert told is not None, path
    return told


def posted(cluster: EtcdCluster, path: str, body: Any) -> Iterator[Any]:
    """The lines of a stream."""
    url = f"http://{cluster.hosts[0]}/v3/{path}"
    with requests.post(url, json=body, stream=True, timeout=PATIENCE_S) as answer:
        for line in answer.iter_lines():
            yield json.loads(line)["result"]


def called(channel: grpc.Channel, path: str, request: Message, **more: Any) -> Any:
    more = {"timeout": PATIENCE_S, **more}
    return channel.unary_unary(path)(protobuf.encode(request), **more)


def refused(channel: grpc.Channel, path: str, request: Message, **more: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as error:
        called(channel, path, request, **more)
    return error.value.code().name, error.value.details()


def led(cluster: EtcdCluster, name: str, told: Iterator[tuple[bytes, bytes]]) -> None:
    """Two lead one after another under ``name``, while ``told`` tells of it: keys and values."""

    def campaign(lease: int, value: str) -> Any:
        done(cluster, "lease/grant", {"TTL": 600, "ID": lease})
        asked = {"name": encoded(name), "lease": lease, "value": encoded(value)}
        return done(cluster, "election/campaign", asked)["leader"]

    first = campaign(0xA1, "one")
    assert next(told) == (f"{name}/a1".encode(), b"one")
    done(cluster, "election/proclaim", {"leader": first, "value": encoded("two")})
    assert next(told) == (f"{name}/a1".encode(), b"two")
    done(cluster, "election/resign", {"leader": first})
    second = campaign(0xA2, "three")
    assert next(told) == (f"{name}/a2".encode(), b"three")
    done(cluster, "election/resign", {"leader": second})
    for lease in (0xA1, 0xA2):
        done(cluster, "lease/revoke", {"ID": lease})


def test_who_leads_is_observed_over_json(cluster: EtcdCluster) -> None:
    lines = (one["kv"] for one in posted(cluster, "election/observe", {"name": encoded("json")}))

    led(cluster, "json", ((base64.b64decode(kv["key"]), base64.b64decode(kv["value"])) for kv in lines))


def test_who_leads_is_observed_over_grpc(cluster: EtcdCluster, channel: grpc.Channel) -> None:
    request = protobuf.encode(messages.LeaderRequest(name=b"grpc"))
    stream = channel.unary_stream("/v3electionpb.Election/Observe")(request, timeout=PATIENCE_S)
    found = (protobuf.decode(messages.LeaderResponse, one).kv for one in stream)

    led(cluster, "grpc", ((kv.key, kv.value) for kv in found if kv is not None))
    stream.cancel()


def test_a_snapshot_comes_over_json_with_its_seal(cluster: EtcdCluster) -> None:
    done(cluster, "kv/put", {"key": encoded("snapshot"), "value": encoded("v" * 1000)})
    lines = list(posted(cluster, "maintenance/snapshot", {}))
    content = b"".join(base64.b64decode(one["blob"]) for one in lines)

    assert "remaining_bytes" not in lines[-1]
    assert sha256(content[:-32]).digest() == content[-32:]


def test_the_version_is_told_the_same_everywhere(cluster: EtcdCluster) -> None:
    told = requests.get(f"http://{cluster.hosts[0]}/version", timeout=PATIENCE_S).json()

    assert done(cluster, "maintenance/status", {})["version"] == told["etcdserver"]


def test_health_is_told_in_three_ways(cluster: EtcdCluster, channel: grpc.Channel) -> None:
    told = requests.get(f"http://{cluster.hosts[0]}/health", timeout=PATIENCE_S).json()
    checked = called(channel, "/grpc.health.v1.Health/Check", messages.HealthCheckRequest())
    unknown = messages.HealthCheckRequest(service="nobody")

    assert (told["health"], told["reason"]) == ("true", "")
    assert protobuf.decode(messages.HealthCheckResponse, checked).status is messages.ServingStatus.SERVING
    assert refused(channel, "/grpc.health.v1.Health/Check", unknown) == ("NOT_FOUND", "unknown service")


def test_health_is_watched(cluster: EtcdCluster, channel: grpc.Channel) -> None:
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
    for service, status in (("", messages.ServingStatus.SERVING), ("nobody", messages.ServingStatus.SERVICE_UNKNOWN)):
        stream = watch(protobuf.encode(messages.HealthCheckRequest(service=service)), timeout=PATIENCE_S)
        assert protobuf.decode(messages.HealthCheckResponse, next(stream)).status is status
        stream.cancel()


def test_a_campaign_whose_deadline_passes_takes_its_key_back(cluster: EtcdCluster, channel: grpc.Channel) -> None:
    for lease in (0xB1, 0xB2):
        done(cluster, "lease/grant", {"TTL": 600, "ID": lease})
    done(cluster, "election/campaign", {"name": encoded("late"), "lease": 0xB1})
    request = messages.CampaignRequest(name=b"late", lease=0xB2)
    code, _ = refused(channel, "/v3electionpb.Election/Campaign", request, timeout=1)

    def contenders() -> int:
        return int(done(cluster, "kv/range", {"key": encoded("late/"), "range_end": encoded("late0")})["count"])

    assert code in ("DEADLINE_EXCEEDED", "UNKNOWN")  # etcd may be first to notice, and has code 2 for it
    wait_until(lambda: contenders() == 1, "the key to go")


def test_watches_are_refused_canceled_and_told_how_far_they_are(cluster: EtcdCluster, channel: grpc.Channel) -> None:
    watcher = Watcher(channel, is_theirs=False)

    def told(request: messages.WatchRequest) -> Any:
        watcher.ask(request)
        found = watcher.hear()
        found.pop("header")
        return found

    def create(**more: Any) -> messages.WatchRequest:
        return messages.WatchRequest(create_request=messages.WatchCreateRequest(**more))

    def cancel(watch_id: int) -> messages.WatchRequest:
        return messages.WatchRequest(cancel_request=messages.WatchCancelRequest(watch_id=watch_id))

    refused = {"watch_id": "-1", "created": True, "canceled": True}
    assert told(create(key=b"w")) == {"created": True}
    assert told(create(key=b"w", watch_id=7)) == {"created": True, "watch_id": "7"}
    reason = "mvcc: duplicate watch ID provided on the WatchStream"
    assert told(create(key=b"w", watch_id=7)) == {**refused, "cancel_reason": reason}
    assert told(create(key=b"w", range_end=b"a")) == {**refused, "cancel_reason": "mvcc: watcher range is empty"}
    assert told(messages.WatchRequest(progress_request=messages.WatchProgressRequest())) == {"watch_id": "-1"}
    assert told(cancel(7)) == {"watch_id": "7", "canceled": True}
    watcher.ask(cancel(7))  # of which nothing is told
    kinds = (messages.WatchFilter.NOPUT, messages.WatchFilter.NODELETE)
    assert told(create(key=b"w", filters=kinds)) == {"watch_id": "1", "created": True}
    done(cluster, "kv/put", {"key": encoded("w"), "value": encoded("v")})
    found = watcher.hear()
    assert (found.get("watch_id"), found["events"][0]["kv"]["value"]) == (None, encoded("v"))
    for key in (b"x", b"y"):  # before it can have begun
        watcher.ask(create(key=key, watch_id=9))
        watcher.ask(cancel(9))
    watcher.ask(create(key=b"z", watch_id=9))
    said = [watcher.hear() for _ in range(5)]
    assert ["created" in one for one in said] == [True, False, True, False, True]
    assert ["canceled" in one for one in said] == [False, True, False, True, False]
    for key in ("x", "y", "z"):
        done(cluster, "kv/put", {"key": encoded(key), "value": encoded("v")})
    found = watcher.hear()
    assert (found["watch_id"], [one["kv"]["key"] for one in found["events"]]) == ("9", [encoded("z")])
    watcher.close()


def test_a_watch_goes_on_when_its_client_has_no_more_to_ask(cluster: EtcdCluster, channel: grpc.Channel) -> None:
    request = messages.WatchRequest(create_request=messages.WatchCreateRequest(key=b"half"))
    stream = channel.stream_stream("/etcdserverpb.Watch/Watch")(iter([protobuf.encode(request)]), timeout=PATIENCE_S)
    told = (protobuf.decode(messages.WatchResponse, one) for one in stream)

    assert next(told).created
    for value in (b"1", b"2"):
        done(cluster, "kv/put", {"key": encoded("half"), "value": encoded(value)})
        assert [event.kv.value for event in next(told).events if event.kv is not None] == [value]
    stream.cancel()


def test_what_is_large_comes_in_fragments_where_that_is_wished(cluster: EtcdCluster, channel: grpc.Channel) -> None:
    puts = [{"request_put": {"key": encoded(f"big/{one}"), "value": encoded(450_000 * "v")}} for one in "abc"]
    watcher = Watcher(channel, is_theirs=False)
    for number, wishes in ((1, True), (2, False)):
        create = messages.WatchCreateRequest(
            key=b"big/", range_end=b"big0", watch_id=number, prev_kv=True, fragment=wishes
        )
        watcher.ask(messages.WatchRequest(create_request=create))
        watcher.hear_created()
    for _ in range(2):  # the first is below the bound, the second, which tells what was there before, above it
        done(cluster, "kv/txn", {"success": puts})
    said = [watcher.hear() for _ in range(5)]
    watcher.close()

    def cut(watch_id: int) -> list[tuple[int, bool]]:
        own = [one for one in said if int(one["watch_id"]) == watch_id]
        return [(len(one["events"]), one.get("fragment", False)) for one in own]

    assert cut(1) == [(3, False), (2, True), (1, False)]
    assert cut(2) == [(3, False), (3, False)]


def test_a_node_without_a_leader_says_so_to_who_asks_for_one(cluster: EtcdCluster) -> None:
    """The last of this file: two nodes of three are killed."""
    wanted = (("hasleader", "true"),)
    put = messages.PutRequest(key=b"nobody leads", value=b"v")
    with grpc.insecure_channel(cluster.hosts[0]) as channel:
        begun = protobuf.encode(messages.WatchRequest(create_request=messages.WatchCreateRequest(key=b"w")))
        over = threading.Event()
        watching = channel.stream_stream("/etcdserverpb.Watch/Watch")(_open(begun, over), timeout=60, metadata=wanted)
        assert protobuf.decode(messages.WatchResponse, next(watching)).created
        cluster.kill("n2", "n3")
        with pytest.raises(grpc.RpcError) as ended:
            next(watching)
        over.set()
        local = messages.RangeRequest(key=b"w", serializable=True)
        called(channel, "/etcdserverpb.KV/Range", local)

        no_leader = ("UNAVAILABLE", "etcdserver: no leader")
        assert (ended.value.code().name, ended.value.details()) == no_leader
        assert refused(channel, "/etcdserverpb.KV/Put", put, metadata=wanted) == no_leader
        # Who is first is chance: the client's clock, a server that gives up (etcd: code 2), or one that knows (ours).
        code, _ = refused(channel, "/etcdserverpb.KV/Put", put, timeout=0.001)
        assert code in ("DEADLINE_EXCEEDED", "UNKNOWN", "UNAVAILABLE")


def _open(first: bytes, over: threading.Event) -> Iterator[bytes]:
    """What is sent on a stream that stays open."""
    yield first
    over.wait(60)


def test_in_quorum_mode_every_call_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("quorum"), mode="quorum") as cluster:
        posted = requests.post(cluster.url("n1", "/v3/kv/put"), json={"key": encoded("k")}, timeout=PATIENCE_S)
        with grpc.insecure_channel(f"127.0.0.1:{cluster.http['n1']}") as channel:
            code, text = refused(channel, "/etcdserverpb.KV/Put", messages.PutRequest(key=b"k"))
            watching = channel.stream_stream("/etcdserverpb.Watch/Watch")(iter([b""]), timeout=PATIENCE_S)
            with pytest.raises(grpc.RpcError) as ended:
                next(watching)

    assert (posted.status_code, posted.json()["code"], posted.json()["message"]) == (501, 12, text)
    assert (code, ended.value.code().name, ended.value.details()) == ("UNIMPLEMENTED", "UNIMPLEMENTED", text)
