"""Snapshots of a raft replica: their files, their bodies, and the process that writes and loads them."""
