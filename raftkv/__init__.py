"""raftkv: a replicated key-value store with two replication modes behind one REST API.

The package is read from the bottom up: ``core`` holds the values everything speaks in, ``machine`` the deterministic
key-value machine, ``storage`` and ``peers`` the disk and the network, ``raft`` one replication mode, ``frontend`` and
``http`` what clients talk to, ``client`` the SDK, ``launch`` and ``cli`` what a person types.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("raftkv")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
