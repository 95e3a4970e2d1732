"""The disk: ordered tables in LMDB, the segmented log, snapshot files, and disk errors in one place.

Everything durable goes through here; nothing here knows what Raft or a key-value machine is.
"""
