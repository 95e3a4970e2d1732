"""gRPC over HTTP/2, without I/O up to the carrier: it knows neither protobuf nor etcd, and no replication.

From the bottom: ``frames`` lays out what HTTP/2 sends (RFC 9113), ``fields`` reads and writes header blocks (RFC 7541,
by the library hpack), ``patience`` bounds what a peer may ask that is of no use, ``streams`` holds what is one stream's
and what is sent, ``connection`` is the state machine of one connection; ``status`` and ``heads`` are gRPC's words,
``calls`` speaks gRPC over the streams of a connection, ``carrier`` joins it to a transport of asyncio.

HTTP/2 is not the library h2 because a call costs more than five times as much there (``docs/design.rst``). Bytes and
times are bounded everywhere, and time is handed in.
"""
