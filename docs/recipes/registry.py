"""A service registry: ``python registry.py serve NAME ADDRESS`` is found while it lives, by ``registry.py find NAME``.

A service that dies without a word is gone after ten seconds, one that ends is gone at once.
"""

import signal
import sys
import time

from raftkv import Client

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that blocks are left, and leases revoked
with Client() as store:
    if sys.argv[1] == "serve":
        name, address = sys.argv[2:]
        with store.lease(10) as lease:
            store.set(f"services/{name}/{lease.id}", address, lease=lease)
            print("registered", flush=True)
            while not lease.is_lost:
                time.sleep(0.1)  # serving goes here
    else:
        for found in store.list(f"services/{sys.argv[2]}/"):
            print(found.value.decode())
