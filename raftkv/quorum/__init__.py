"""Leaderless replication in the manner of Dynamo: every node coordinates, N replicas of each key, quorums of R and W.

``ring`` and ``placement`` say where keys belong, ``membership`` who is there, ``versions`` how writes merge. Reads and
writes are arithmetic (``reads``, ``writes``, ``targets``) apart from what drives them. The replica is one thread and
does no I/O of its own: clock, store, network and randomness are handed in.
"""
