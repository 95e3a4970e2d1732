"""Attacks on every door of real nodes: HTTP, the peer port, the front-end's socket; and what must hold afterwards."""
