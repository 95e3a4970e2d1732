"""Backups of a cluster, and new clusters made of them. What a file is, is ``raftkv.storage.backups``."""
