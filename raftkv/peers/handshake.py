"""The mutual challenge by which two nodes prove that they hold the cluster's secret: pure, one object per connection.

::

    dialer                                              acceptor
       | Hello(version, cluster, dialer, acceptor, nonce, proof) ->|   no word to whoever cannot prove the secret
       |<- Challenge(nonce, proof)                                 |   the acceptor proves it, for both fresh nonces
       | Proof(proof) ->                                           |   the dialer proves that it is no recording

Every proof is an HMAC-SHA256 under the shared secret over a label naming the message, the protocol version, the
cluster, both node ids and the nonces: so a proof fits one message of one connection of one pair in one direction. A
replayed Hello earns a Challenge for a nonce that its recording cannot answer; a reflected message carries the wrong
label. Of each pair the node with the smaller id dials, and the acceptor holds the dialer to it.

The secret needs the strength of a key, not of a password: whoever records a handshake may try secrets at leisure.
Nothing here does I/O or draws randomness; nonces come from the caller. What is said, byte by byte, is
``raftkv.formats.handshakes``. Imports the standard library, msgspec and ``raftkv.formats`` only.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection

import msgspec

from raftkv.formats.handshakes import (
    HANDSHAKE_VERSION,
    NONCE_BYTES,
    Challenge,
    Handshaking,
    Hello,
    Proof,
    covered,
    decode,
    encode,
)
from raftkv.formats.peers import MalformedMessageError

MALFORMED = "the handshake message is malformed"
OTHER_VERSION = "the dialer speaks another protocol version"
WRONG_SECRET = "the dialer does not hold this cluster's secret"  # noqa: S105  a reason, not a password
OTHER_CLUSTER = "the dialer belongs to another cluster"
WRONG_TARGET = "the dialer meant to reach another node"
DIALS_ITSELF = "the dialer claims this node's own id"
UNKNOWN_NODE = "the dialer is no member of this cluster"
WRONG_DIRECTION = "the node with the larger id does not dial"
STALE_PROOF = "the dialer's proof does not answer this challenge"
IMPOSTOR = "the acceptor does not hold this cluster's secret, or is not the node that was dialled"


class HandshakeRefused(Exception):  # noqa: N818  a refusal is the expected outcome here, not a malfunction
    """The other side is not let in. The reason is for this node's log; the other side just sees a close."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SessionKeys(msgspec.Struct, frozen=True, kw_only=True):
    """One key for each direction, as seen from one side; fresh for every connection."""

    send: bytes
    receive: bytes


class HandshakeStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one handshake message led to: bytes to send back, and the keys once this side is satisfied."""

    reply: bytes = b""
    keys: SessionKeys | None = None


class Dialer:
    """The side that opened the connection. ``peer`` is the node it means to reach."""

    def __init__(self, *, cluster: str, node_id: str, target: str, secret: bytes, nonce: bytes) -> None:
        """``nonce`` must be fresh and unpredictable for every connection."""
        assert len(nonce) == NONCE_BYTES
        assert target > node_id
        self.peer = target
        self._seal = _Seal(secret, cluster, node_id, target)
        self._nonce = nonce

    def opening(self) -> bytes:
        """The Hello that begins the handshake."""
        seal = self._seal
        proof = seal.proof("hello", self._nonce, b"")
        return encode(
            Hello(
                version=HANDSHAKE_VERSION,
                cluster=seal.cluster,
                dialer=seal.dialer,
                acceptor=seal.acceptor,
                nonce=self._nonce,
                proof=proof,
            )
        )

    def receive(self, message: bytes) -> HandshakeStep:
        """Take the acceptor's Challenge; raises ``HandshakeRefused`` when it does not prove the secret."""
        challenge = _decode(message, Challenge)
        if len(challenge.nonce) != NONCE_BYTES:
            raise HandshakeRefused(MALFORMED)
        expected = self._seal.proof("challenge", self._nonce, challenge.nonce)
        if not hmac.compare_digest(challenge.proof, expected):
            raise HandshakeRefused(IMPOSTOR)
        answer = Proof(proof=self._seal.proof("proof", self._nonce, challenge.nonce))
        outward, inward = self._seal.direction_keys(self._nonce, challenge.nonce)
        return HandshakeStep(reply=encode(answer), keys=SessionKeys(send=outward, receive=inward))


class Acceptor:
    """The side that was dialled. ``peer`` is ``None`` until the dialer has proven who it is."""

    def __init__(self, *, cluster: str, node_id: str, members: Collection[str], secret: bytes, nonce: bytes) -> None:
        """``members`` are the known node ids; ``nonce`` must be fresh and unpredictable for every connection."""
        assert len(nonce) == NONCE_BYTES
        self.peer: str | None = None
        self._cluster = cluster
        self._node_id = node_id
        self._members = members
        self._secret = secret
        self._nonce = nonce
        self._seal: _Seal | None = None
        self._hello: Hello | None = None

    def receive(self, message: bytes) -> HandshakeStep:
        """Take the Hello, then the Proof; raises ``HandshakeRefused`` as soon as something is wrong."""
        if self._hello is None or self._seal is None:
            return self._greeted(_decode(message, Hello))
        return self._proven(_decode(message, Proof), self._hello, self._seal)

    def _greeted(self, hello: Hello) -> HandshakeStep:
        # The proof is checked before the names, so that a stranger learns nothing from how soon it is turned away, and
        # so that the later reasons can be trusted: they come from a holder of the secret.
        if hello.version != HANDSHAKE_VERSION:
            raise HandshakeRefused(OTHER_VERSION)
        if len(hello.nonce) != NONCE_BYTES:
            raise HandshakeRefused(MALFORMED)
        seal = _Seal(self._secret, hello.cluster, hello.dialer, hello.acceptor)
        if not hmac.compare_digest(hello.proof, seal.proof("hello", hello.nonce, b"")):
            raise HandshakeRefused(WRONG_SECRET)
        if hello.cluster != self._cluster:
            raise HandshakeRefused(OTHER_CLUSTER)
        if hello.acceptor != self._node_id:
            raise HandshakeRefused(WRONG_TARGET)
        if hello.dialer == self._node_id:
            raise HandshakeRefused(DIALS_ITSELF)
        if hello.dialer not in self._members:
            raise HandshakeRefused(UNKNOWN_NODE)
        if hello.dialer > self._node_id:
            raise HandshakeRefused(WRONG_DIRECTION)
        self._hello, self._seal = hello, seal
        proof = seal.proof("challenge", hello.nonce, self._nonce)
        return HandshakeStep(reply=encode(Challenge(nonce=self._nonce, proof=proof)))

    def _proven(self, answer: Proof, hello: Hello, seal: _Seal) -> HandshakeStep:
        if not hmac.compare_digest(answer.proof, seal.proof("proof", hello.nonce, self._nonce)):
            raise HandshakeRefused(STALE_PROOF)
        self.peer = hello.dialer
        inward, outward = seal.direction_keys(hello.nonce, self._nonce)
        return HandshakeStep(keys=SessionKeys(send=outward, receive=inward))


class _Seal:
    """Everything that stays the same within one handshake, and the codes computed over it."""

    def __init__(self, secret: bytes, cluster: str, dialer: str, acceptor: str) -> None:
        self.cluster = cluster
        self.dialer = dialer
        self.acceptor = acceptor
        self._secret = secret

    def proof(self, label: str, dialer_nonce: bytes, acceptor_nonce: bytes) -> bytes:
        fields = covered(
            label,
            cluster=self.cluster,
            dialer=self.dialer,
            acceptor=self.acceptor,
            dialer_nonce=dialer_nonce,
            acceptor_nonce=acceptor_nonce,
        )
        return hmac.digest(self._secret, fields, "sha256")

    def direction_keys(self, dialer_nonce: bytes, acceptor_nonce: bytes) -> tuple[bytes, bytes]:
        """The key from dialer to acceptor, and the key back."""
        return (
            self.proof("key outward", dialer_nonce, acceptor_nonce),
            self.proof("key inward", dialer_nonce, acceptor_nonce),
        )


def _decode(message: bytes, kind: type[Handshaking]) -> Handshaking:
    try:
        return decode(message, kind)
    except MalformedMessageError:
        raise HandshakeRefused(MALFORMED) from None
