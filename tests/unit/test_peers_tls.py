"""TLS on the peer link: the cluster's own authority decides, on top of the shared secret."""

import asyncio
import contextlib
import ssl

import pytest
import structlog
import trustme

from raftkv.core.config import Address
from raftkv.core.errors import StartupError
from raftkv.instruments.local.nodes import free_ports
from raftkv.peers.tls import misnamed, peer_tls
from tests.unit.peers_stage import Puppet, still_works, until


class Authority:
    """A certificate authority and one node certificate of it, as PEM files."""

    def __init__(self, folder, *names):
        folder.mkdir()
        self.ca = trustme.CA()
        issued = self.ca.issue_cert(*names)
        self.cert, self.key, self.root = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.serial = ssl._ssl._test_decode_cert(str(self.cert))["serialNumber"]
        self.root.write_bytes(self.ca.cert_pem.bytes())

    def tls(self):
        return peer_tls(self.cert, self.key, self.root)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "right", "127.0.0.1")


@pytest.fixture
def stranger(tmp_path):
    return Authority(tmp_path / "wrong", "127.0.0.1")


def test_nodes_of_one_authority_meet_and_talk(play, authority):
    async def scenario(stage):
        first, second = await stage.pair(tls=authority.tls())
        payloads = [b"x", b"y" * 3_000_000, b"z"]
        for payload in payloads:
            first.send("n2", payload)
            second.send("n1", payload)
        await until(lambda: all(len(recorder.payloads) == 3 for recorder in stage.recorders.values()))

        assert stage.recorders["n1"].payloads == payloads
        assert stage.recorders["n2"].payloads == payloads
        cipher = first._live["n2"].transport.get_extra_info("cipher")
        assert cipher[1] in ("TLSv1.2", "TLSv1.3")

    play(scenario)


def test_what_was_sent_just_before_stop_still_arrives_through_tls(play, authority):
    async def scenario(stage):
        first, _ = await stage.pair(tls=authority.tls())
        first.send("n2", b"farewell")
        await first.stop()
        await until(lambda: stage.recorders["n2"].payloads == [b"farewell"])

    play(scenario)


def test_a_restarted_tls_peer_is_met_again(play, authority):
    async def scenario(stage):
        first, second = await stage.pair(tls=authority.tls())
        await second.stop()
        await until(lambda: not first.is_up("n2"))
        second, _ = await stage.add("n2", tls=authority.tls())
        await until(lambda: first.is_up("n2") and second.is_up("n1"))

    play(scenario)


@pytest.mark.parametrize(("dialer", "acceptor"), [("wrong", "right"), ("none", "right"), ("right", "none")])
def test_the_secret_alone_is_not_enough(play, authority, stranger, dialer, acceptor):
    choices = {"right": authority.tls(), "wrong": stranger.tls(), "none": None}

    async def scenario(stage):
        await stage.add("n2", tls=choices[acceptor])
        await stage.add("n1", tls=choices[dialer])
        await asyncio.sleep(0.8)

        assert all(recorder.events == [] for recorder in stage.recorders.values())

    play(scenario)


def test_a_client_that_trusts_us_but_shows_no_certificate_is_turned_away(play, authority):
    context = ssl.create_default_context(cafile=authority.root)
    context.check_hostname = False

    async def scenario(stage):
        await stage.add("n2", tls=authority.tls())
        address = stage.members["n2"]
        heard = b""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
            stage.closing(writer)
            writer.write(b"\x00\x00\x00\x01x")
            heard = await reader.read()

        assert heard == b""
        assert stage.recorders["n2"].events == []

    play(scenario)


@pytest.mark.parametrize("opening", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(100_000)])
def test_a_plain_or_garbled_client_of_a_tls_port_changes_nothing(play, authority, opening):
    async def scenario(stage):
        link = (await stage.pair(tls=authority.tls()))[1]
        reader, writer = await stage.knock()
        with contextlib.suppress(OSError):
            writer.write(opening)
            async with asyncio.timeout(3.0):
                assert b"raftkv" not in await reader.read()
        await still_works(stage)
        await until(lambda: link._listener.stranger_count() == 0)

        assert stage.recorders["n2"].changes("n1") == ["up"]
        assert len(link._connections) == 1

    play(scenario)


def test_two_hundred_silent_connections_are_bounded_before_tls_too(play, authority):
    async def scenario(stage):
        link = (await stage.pair(tls=authority.tls()))[1]
        strangers = [await stage.knock() for _ in range(200)]
        await asyncio.sleep(0.2)
        gone = sum(reader.at_eof() or reader.exception() is not None for reader, _ in strangers)

        assert gone >= 200 - 64
        assert link._listener.stranger_count() <= 64
        await still_works(stage)
        await until(lambda: link._listener.stranger_count() == 0)

    play(scenario)


def test_a_puppet_without_tls_never_gets_as_far_as_the_handshake(play, authority):
    async def scenario(stage):
        await stage.add("n2", tls=authority.tls())
        puppet = await Puppet(stage).connect()
        assert await puppet.closed_by_peer()

        assert stage.recorders["n2"].events == []

    play(scenario)


@pytest.mark.parametrize("broken", ["cert", "key", "root"])
@pytest.mark.parametrize("how", ["missing", "garbage", "empty"])
def test_bad_files_are_refused_in_one_line_that_names_them(authority, broken, how):
    path = getattr(authority, broken)
    if how == "missing":
        path.unlink()
    else:
        path.write_text("no PEM at all\n" if how == "garbage" else "")
    with pytest.raises(StartupError) as caught:
        authority.tls()

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_of_another_certificate_is_refused(authority, stranger):
    with pytest.raises(StartupError, match="no certificate with its key"):
        peer_tls(authority.cert, stranger.key, authority.root)


@pytest.mark.parametrize("names", [["n1", "n2"], ["127.0.0.1"], ["N1", "n2.", "other"]])
def test_a_certificate_names_a_node_by_its_id_or_its_host(play, tmp_path, names):
    async def scenario(stage):
        await stage.pair(tls=Authority(tmp_path / "named", *names).tls())

    play(scenario)


@pytest.mark.parametrize(
    ("host", "alternatives", "is_named"),
    [
        ("n1.raftkv.internal", [("DNS", "*.raftkv.internal")], True),
        ("raftkv.internal", [("DNS", "*.raftkv.internal")], False),
        ("a.n1.raftkv.internal", [("DNS", "*.raftkv.internal")], False),
        ("::1", [("IP Address", "0:0:0:0:0:0:0:1")], True),
        ("10.0.0.1", [("DNS", "10.0.0.2"), ("URI", "n1"), ("email", "n1")], False),
        ("10.0.0.1", [], False),
    ],
)
def test_one_star_stands_for_a_first_label_and_addresses_are_compared_as_such(host, alternatives, is_named):
    reason = misnamed({"subjectAltName": alternatives}, "n1", Address(host, 1))

    assert (reason is None) == is_named


def test_a_certificate_of_another_node_is_refused_by_both_sides(play, tmp_path):
    """The hazard: who holds the certificate of any node, and the secret, passes for every other."""

    async def scenario(stage):
        with structlog.testing.capture_logs() as logs:
            tls = Authority(tmp_path / "named", "n2", "elsewhere").tls()
            await stage.add("n2", tls=tls)
            stage.members["n1"] = Address("127.0.0.9", free_ports(1)[0])
            await stage.add("n1", tls=tls)
            await until(lambda: any("neither n1 nor 127.0.0.9" in line.get("reason", "") for line in logs))

        assert not stage.links["n2"].is_up("n1")
        assert stage.recorders["n2"].events == []

    play(scenario)


def test_renewed_certificates_are_for_new_connections(play, tmp_path):
    async def scenario(stage):
        old, new = Authority(tmp_path / "old", "n1", "n2"), Authority(tmp_path / "new", "n1", "n2")
        first, second = await stage.pair(tls=old.tls())
        for link in (first, second):
            link.renew_tls(new.tls())
        first.send("n2", b"over what there is")
        await until(lambda: stage.recorders["n2"].payloads == [b"over what there is"])
        assert stage.recorders["n1"].changes("n2") == ["up"]
        first.close_peer("n2")
        await until(lambda: first.is_up("n2") and second.is_up("n1"))

        shown = first._live["n2"].certificate
        assert shown["serialNumber"] == new.serial
        assert shown["serialNumber"] != old.serial

    play(scenario)
