"""The etcd v3 API over the native one: existing clients of etcd, unmodified. A room of its own, raft mode only.

``messages`` is the table of what is said; ``protobuf`` and ``gateway_json`` read and write it as gRPC and as JSON;
the services turn a message into plans of the native requests (``raftkv.core.requests``) and what comes of them into an
answer. Nothing is implemented here that the native API does not have.
"""
