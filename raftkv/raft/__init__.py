"""Leader-follower replication: PySyncObj for elections and the log, kept inside the protocol by what stands around it.

Only this package touches PySyncObj, and only ``internals`` its private names. The replica is one thread and does no
I/O of its own: clock, log, state, snapshots, network and randomness are handed in.
"""
