"""Leader-follower replication: PySyncObj for elections and the log, kept inside the protocol by what stands around it.

Only ``engine`` touches PySyncObj; ``assembly`` says which parts there are, ``replica`` what a round of work is. The
replica is one thread and does no I/O of its own: clock, log, state, snapshots, network and randomness are handed in.
"""
