"""Tokens: whom they name, and what is none."""

import base64
import hashlib
import hmac

import msgspec
import pytest

from raftkv.core.proof import Prover, Verdict, Verifier
from raftkv.core.rights import Caller
from raftkv.formats.tokens import Bearer, TokenFlaw, Tokens

KEY = b"k" * 32
ALICE = Caller("alice", 7)


class Clock:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(KEY, "ours", wall_ms=clock, ttl_ms=60_000)


def test_a_token_names_its_user_and_generation_at_every_node_until_it_ends(tokens, clock):
    token = tokens.make(ALICE).encode()
    elsewhere = Tokens(KEY, "ours", wall_ms=clock, ttl_ms=1)

    assert elsewhere.read(token) == Bearer(ALICE, 1_060_000)
    clock.now_ms += 59_999
    assert tokens.read(token) == Bearer(ALICE, 1_060_000)
    clock.now_ms += 1
    assert tokens.read(token) is TokenFlaw.EXPIRED


def test_the_longest_name_fits(tokens):
    caller = Caller("\U0001f600" * 64, 1 << 62)

    assert tokens.read(tokens.make(caller).encode()).caller == caller


def test_a_changed_token_is_none(tokens):
    token = tokens.make(ALICE).encode()

    for place in range(len(token)):
        for bit in (1, 4, 32):
            changed = bytearray(token)
            changed[place] ^= bit
            assert tokens.read(bytes(changed)) is TokenFlaw.FOREIGN
    for other in (
        token[:-1],
        token + b"A",
        token + b"=",
        b" " + token,
        token + b"\n",
        token * 2,
        b"",
        b"rkv1..",
        b"\xff",
    ):
        assert tokens.read(other) is TokenFlaw.FOREIGN


def test_tokens_of_other_clusters_and_secrets_are_none(tokens, clock):
    for key, cluster in ((b"another" * 5, "ours"), (KEY, "theirs"), (KEY, "our"), (KEY, "ours\n")):
        theirs = Tokens(key, cluster, wall_ms=clock, ttl_ms=60_000)
        assert tokens.read(theirs.make(ALICE).encode()) is TokenFlaw.FOREIGN


def text(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


@pytest.mark.parametrize("algorithm", ["none", "sha1", "sha512"])
def test_a_token_cannot_choose_how_it_is_signed(tokens, algorithm):
    content = text(msgspec.msgpack.encode(["root", 0, 1 << 50]))
    mac = b"" if algorithm == "none" else hmac.digest(KEY, content, algorithm)

    assert tokens.read(b"rkv1." + content + b"." + text(mac)) is TokenFlaw.FOREIGN
    header = text(b'{"alg":"none"}')
    assert tokens.read(header + b"." + content + b".") is TokenFlaw.FOREIGN


def test_neither_the_secret_itself_nor_a_proof_by_it_signs_tokens(tokens, clock):
    content = text(msgspec.msgpack.encode(["root", 0, 1 << 50]))
    told = b"raftkv token\nours\n" + content
    mac = hmac.digest(KEY, told, hashlib.sha256)
    assert tokens.read(b"rkv1." + content + b"." + text(mac)) is TokenFlaw.FOREIGN

    proof = Prover(KEY, "ours", wall_ms=clock).authorization("GET", "/", b"")
    assert tokens.read(proof.encode()) is TokenFlaw.FOREIGN
    verifier = Verifier(KEY, "ours", wall_ms=clock)
    assert verifier.judge(tokens.make(ALICE).encode(), "GET", b"/", b"") is Verdict.MISSING


@pytest.mark.parametrize(
    "content", [[], ["root", 0], ["root", 0, 1 << 50, "more"], ["", 0, 1 << 50], ["a\x00", 0, 1], ["a", -1, 1]]
)
def test_what_another_version_may_sign_is_none_here(tokens, content):
    encoded = text(msgspec.msgpack.encode(content))

    assert tokens.read(b"rkv1." + encoded + b"." + tokens._signature(encoded)) is TokenFlaw.FOREIGN


def test_the_bytes_of_a_token_stay(tokens):
    assert tokens.make(ALICE) == "rkv1.k6VhbGljZQfOABAsoA.rBGNsDHOou11NAeVx_2dMAZGqdTZkRVAu2nILmZe47U"


def test_only_what_was_signed_here_is_remembered(tokens):
    for number in range(5_000):
        assert tokens.read(b"rkv1.AAAAAAAA%08d.%043d" % (number, number)) is TokenFlaw.FOREIGN

    assert tokens._signed.cache_info().currsize == 0
    assert tokens.read(tokens.make(ALICE).encode())
    assert tokens._signed.cache_info().currsize == 1
