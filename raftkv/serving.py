"""The process that answers a node's clients: the native API, and beside it what else the configuration has.

``python -P -m raftkv.serving``, as ``raftkv.http.door.server`` says. Its own place is above both, which know nothing of
each other.
"""

from __future__ import annotations

import sys
from functools import partial

from raftkv.console.serving import routes
from raftkv.core.config import ClusterConfig
from raftkv.http.door.beside import Beside
from raftkv.http.door.server import main


def beside(config: ClusterConfig) -> Beside:
    """What is served beside the native API."""
    pages = routes() if config.http.console else ()
    if not config.etcd.enabled:
        return Beside(pages)
    from raftkv.etcd.gateway import Gateway  # noqa: PLC0415  whoever switches it off does not pay for it
    from raftkv.etcd.grpc_service import PATHS, speak  # noqa: PLC0415  likewise

    told = partial(speak, config.etcd.version)
    return Beside((*pages, *Gateway(config.etcd.version).routes), told, PATHS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], beside))
