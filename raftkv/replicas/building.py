"""Builds the replica that a configuration asks for, with its link to the peers: the one place where the mode is chosen.

Everything real is put in here: disks, sockets, clocks. Whatever comes out is driven in the same way, whichever mode.
"""

from __future__ import annotations

import importlib
import os
import random
from pathlib import Path
from typing import Protocol

import msgspec

from raftkv.core.certificates import serving_clients
from raftkv.core.config import ClusterConfig, parse_address
from raftkv.core.rules import rules_of
from raftkv.core.secret import read_key
from raftkv.experiment import Surroundings
from raftkv.formats import entries
from raftkv.formats.identity import Standing
from raftkv.frontend.server import OpenReplicator
from raftkv.joining import join
from raftkv.peers.greeting import Greeter
from raftkv.peers.link import LinkEvents, PeerLink
from raftkv.peers.sights import Sights
from raftkv.peers.tls import peer_tls
from raftkv.replicas.reach import frame_limit_bytes, refuse_without
from raftkv.storage.identity import begin_life, exists


class DrivenReplica(OpenReplicator, Protocol):
    """A replica as its process drives it: a turn has two halves, with a chance to send in between.

    If ``sent_ahead`` after ``begin_work``, the loop lets sockets be written before ``finish_work`` waits for the disk.
    """

    sent_ahead: bool

    @property
    def conversation(self) -> LinkEvents:
        """Takes the link's events."""

    def begin_work(self, now_s: float) -> None:
        """The first half of ``work``."""

    def finish_work(self, now_s: float) -> float:
        """The second half."""

    def make_way(self, now_s: float) -> bool:
        """Before the end, again and again until it is true: has this node nothing to do that another could take over?

        It works on meanwhile. Whatever becomes of it, it is true within an election timeout or so.
        """

    def position(self) -> tuple[str, str | None, int, str]:
        """Role, leader, term and place of the applied state: what the front-end must hear of at once."""


class Built(msgspec.Struct, frozen=True):
    """A replica, its link, which is not started yet, who takes the link's events for it, and what is seen of all."""

    replica: DrivenReplica
    link: PeerLink
    events: LinkEvents
    sights: Sights


def load(mode: str) -> None:
    """Import what replicas of ``mode``, and no others, are made of: ``build`` does, but a node freezes before it."""
    importlib.import_module(f"raftkv.replicas.{mode}")


def build(config: ClusterConfig, node_id: str, home: Path, *, events: LinkEvents, surroundings: Surroundings) -> Built:
    """The replica of ``node_id``. ``events`` are told of the link's, and pass them on. Raises ``StartupError``."""
    rules = rules_of(config)
    link = _link(config, node_id, events, surroundings)
    is_joining = config.cluster.mode == "raft" and bool(config.raft.seeds) and not exists(home)
    if is_joining:
        _let_in(config, node_id, link)
    is_alone = len(config.node) == 1 and not is_joining
    identity = begin_life(home, node_id, rules, os.urandom, is_alone=is_alone, is_joining=is_joining)
    greeter = Greeter(identity, rules.all, link=link, clock=surroundings.monotonic_s, reads=entries.NEWEST)
    life = f"{identity.identity.life.start}-{identity.identity.life.nonce}"
    sights = Sights(greeter, life=life, clock=surroundings.monotonic_s, wall_ms=surroundings.wall_ms)
    if config.cluster.mode == "quorum":
        if identity.identity.others:
            refuse_without(home / "store")
        from raftkv.replicas.quorum import quorum_replica  # noqa: PLC0415  see ``load``

        leaderless = quorum_replica(config, node_id, home, link, greeter, surroundings, show_sights=sights.show_sights)
        sights.attach(leaderless.conversation, leaderless.status, leaderless.show_work)
        greeter.attach(sights)
        return Built(leaderless, link, greeter, sights)
    if config.raft.seeds and not is_joining and identity.identity.standing is Standing.JOINING:
        _let_in(config, node_id, link)  # again: it has not heard from the others yet, and they may have moved
    from raftkv.replicas.raft import check_belongs, raft_replica  # noqa: PLC0415  see ``load``

    replica = raft_replica(config, node_id, home, link, greeter, identity, surroundings, show_sights=sights.show_sights)
    check_belongs(config, node_id, replica)
    sights.attach(replica.conversation, replica.status)
    greeter.attach(sights, replica)
    return Built(replica, link, greeter, sights)


def _link(config: ClusterConfig, node_id: str, events: LinkEvents, surroundings: Surroundings) -> PeerLink:
    peers = config.peers
    return PeerLink(
        cluster=config.cluster.name,
        node_id=node_id,
        secret=read_key(config.cluster.secret_path, config.cluster.name),
        listen=config.member(node_id).peer_listen,
        members={node.id: node.peer_address for node in config.node},
        events=events,
        silence_timeout_s=peers.silence_timeout_s,
        frame_limit_bytes=frame_limit_bytes(config),
        tls=peer_tls(peers.tls_cert, peers.tls_key, peers.tls_ca) if peers.tls_cert else None,
        random=random.Random(),  # noqa: S311  jitter, not secrets
        faults=surroundings.faults,
    )


def renew_certificates(config: ClusterConfig, link: PeerLink) -> bool:
    """Let ``link`` show what the files hold now; is there any certificate? The front-end renews its own by itself.

    Raises ``StartupError`` and changes nothing if any of the files will not do, those of the front-end among them.
    """
    http, peers = config.http, config.peers
    if http.tls_cert:
        serving_clients(http.tls_cert, http.tls_key, http.tls_client_ca)
    if peers.tls_cert:
        link.renew_tls(peer_tls(peers.tls_cert, peers.tls_key, peers.tls_ca))
    return bool(http.tls_cert or peers.tls_cert)


def _let_in(config: ClusterConfig, node_id: str, link: PeerLink) -> None:
    """Ask the seeds to be let in; the members that they tell of are those to be linked to."""
    members = join(config.member(node_id), config.raft.seeds, config.http, config.cluster)
    link.set_members({member.id: parse_address(member.peer) for member in members})
