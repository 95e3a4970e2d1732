"""Ordered tables of bytes: the port, and LMDB, RocksDB and memory behind it."""
