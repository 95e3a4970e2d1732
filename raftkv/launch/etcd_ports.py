"""``raftkv up --etcd``: every node that has none gets an address for clients of etcd, beside that where it serves.

The ports are those of etcd's own examples of a cluster on one machine, which such clients are often told already. All
processes of the nodes read it where they read the rest of the configuration: in the environment that they have in
common. This module must not import ``raftkv.node``.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from raftkv.core.config import Address, ClusterConfig, NodeSection, parse_address
from raftkv.core.errors import StartupError

PORTS: Final = (2379, 22379, 32379, 42379, 52379, 62379)
"""Of the first node, the second, and so on."""


def with_etcd_ports(config: ClusterConfig) -> ClusterConfig:
    """``config`` with an address for clients of etcd at each node. Raises ``StartupError``."""
    nodes = []
    for position, node in enumerate(config.node):
        if node.etcd:
            nodes.append(node)
            continue
        fault = config.etcd.fault("any", "", mode=config.cluster.mode)
        if fault:
            raise StartupError(f"--{fault}")
        if position >= len(PORTS):
            raise StartupError(f"--etcd: has ports for {len(PORTS)} nodes; name that of {node.id} as etcd, in [[node]]")
        nodes.append(_with_port(node, PORTS[position]))
    return msgspec.structs.replace(config, node=tuple(nodes))


def _with_port(node: NodeSection, port: int) -> NodeSection:
    etcd, bind = (str(Address(parse_address(text).host, port)) if text else "" for text in (node.http, node.http_bind))
    return msgspec.structs.replace(node, etcd=etcd, etcd_bind=bind)


def nodes_as_toml(config: ClusterConfig) -> str:
    """All nodes of ``config`` as TOML writes them in one line."""
    defaults = NodeSection(id="", http="", peer="")
    tables = []
    for node in config.node:
        named = {key: value for key, value in msgspec.structs.asdict(node).items() if value != getattr(defaults, key)}
        pairs = [f"{key} = {json.dumps(value)}" for key, value in named.items()]
        tables.append(f"{{{', '.join(pairs)}}}")
    return f"[{', '.join(tables)}]"


def endpoints(config: ClusterConfig) -> str:
    """Those addresses as clients of etcd are given them; empty if no node has any."""
    scheme = "https://" if config.http.tls_cert else ""
    return ",".join(f"{scheme}{node.etcd}" for node in config.node if node.etcd)
