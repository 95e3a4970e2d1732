"""Bytes at rest and on the wire: each module describes one format and does nothing else (``docs/formats.rst``)."""
