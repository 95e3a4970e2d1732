"""Nodes whose replicas answer clients themselves (``http.workers = 0``)."""

import signal

import pytest
import trustme

from raftkv.instruments.local.nodes import wait_until
from raftkv.instruments.local.processes import descendants
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration

INSIDE = "[http]\nworkers = 0\n"


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_one_process_serves_hears_a_hangup_and_ends_in_order(tmp_path, mode):
    with running(tmp_path, sections=INSIDE, mode=mode) as cluster:
        for node in cluster.nodes:
            assert cluster.put(node, f"from-{node}", node).ok
        for node in cluster.nodes:
            assert [cluster.get(node, f"from-{other}").text for other in cluster.nodes] == cluster.nodes
        alone = [descendants(process.pid) == {process.pid} for process in cluster.processes.values()]
        cluster.processes["n1"].send_signal(signal.SIGHUP)
        wait_until(lambda: 'read_anew="nothing' in cluster.log("n1"), "the node to hear of it")

        assert all(alone)
        assert [cluster.stop(node) for node in cluster.nodes] == [0] * len(cluster.nodes)
        cluster.start()
        cluster.wait_ready()
        assert cluster.get("n1", "from-n3").text == "n3"


def test_it_speaks_tls_and_a_certificate_that_is_missing_is_named(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    tls = 'tls_cert = "cert.pem"\ntls_key = "key.pem"\n'
    with RealCluster(tmp_path, size=1, sections=INSIDE + tls, scheme="https") as cluster:
        status, said = cluster.run_to_the_end("n1")
        for certificate in issued.cert_chain_pems:
            certificate.write_to_path(tmp_path / "cert.pem", append=True)
        cluster.verify = str(tmp_path / "ca.pem")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        cluster.start()
        wait_until(lambda: "listening" in cluster.log("n1"), "the node to listen")

        assert status == 2
        assert "cert.pem" in said.splitlines()[-1]
        assert cluster.put("n1", "k", "v").ok
