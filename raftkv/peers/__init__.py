"""The authenticated link between nodes: who is there, frames that cannot be forged, and one live connection per peer.

``link.PeerLink`` is what the replica uses; ``tls.peer_tls`` and ``faults.LinkFaults`` are what it may be given. The
protocol itself is a pure machine (``handshake``, ``session``, over ``formats.frames``): bytes in, bytes and payloads
out, no socket, clock or randomness of its own. What the payloads mean is the caller's affair.
"""
