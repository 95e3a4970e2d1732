"""The link between the front-end workers and the replica process of one node, over a Unix socket.

``wire`` is the frames, ``server`` the replica's end, ``remote`` the front-end's end (a third ``Replicator``),
``readers`` its bookkeeping of shared barriers, ``applied`` its own view of the applied state.
"""
