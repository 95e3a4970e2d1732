"""``raftkv up --etcd``: which node gets which port, and what its processes read of it."""

import pytest

from raftkv.core.config import config_of, parse_config
from raftkv.core.environment import NODES, document_of
from raftkv.core.errors import StartupError
from raftkv.launch.etcd_ports import endpoints, nodes_as_toml, with_etcd_ports


def cluster(count, more="", sections=""):
    nodes = [
        f'[[node]]\nid = "n{one}"\nhttp = "127.0.0.1:800{one}"\npeer = "127.0.0.1:900{one}"\n{more}'
        for one in range(1, count + 1)
    ]
    return parse_config(sections + "".join(nodes))


def test_ports_are_those_of_etcds_own_examples():
    given = with_etcd_ports(cluster(3))

    assert [node.etcd for node in given.node] == ["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"]
    assert endpoints(given) == "127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379"


def test_endpoints_say_where_tls_is_spoken():
    told = endpoints(with_etcd_ports(cluster(1, sections='[http]\ntls_cert = "c"\ntls_key = "k"\n')))

    assert told == "https://127.0.0.1:2379"


def test_an_address_that_is_configured_stays():
    given = with_etcd_ports(cluster(1, 'etcd = "localhost:4001"\netcd_bind = "127.0.0.1:4002"\n'))

    assert (given.node[0].etcd, given.node[0].etcd_bind) == ("localhost:4001", "127.0.0.1:4002")


def test_a_node_that_listens_elsewhere_than_it_says_does_so_for_etcd_too():
    given = with_etcd_ports(cluster(1, 'http_bind = "*:8001"\n', "[auth]\nopen_to_anyone = true\n"))

    assert (given.node[0].etcd, given.node[0].etcd_bind) == ("127.0.0.1:2379", "*:2379")


def test_processes_read_the_same_nodes():
    given = with_etcd_ports(cluster(3, 'zone = "a \\"room\\""\n'))

    assert config_of(document_of(None, {NODES: nodes_as_toml(given)})).node == given.node


@pytest.mark.parametrize(
    ("count", "sections", "reason"),
    [
        (3, '[cluster]\nmode = "quorum"\n', "--etcd: of no use in quorum mode"),
        (1, "[etcd]\nenabled = false\n", "--etcd: of no use where etcd.enabled is false"),
        (7, "", "--etcd: has ports for 6 nodes; name that of n7 as etcd"),
    ],
)
def test_where_it_would_be_of_no_use_it_is_refused(count, sections, reason):
    with pytest.raises(StartupError, match=reason):
        with_etcd_ports(cluster(count, sections=sections))
