"""One at a time, over all machines: ``python lock.py NAME COMMAND...`` runs COMMAND while it holds the lock."""

import subprocess
import sys

from raftkv import Client

with Client() as store, store.lock(sys.argv[1]) as lock:
    print("fencing token", lock.token, flush=True)
    status = subprocess.run(sys.argv[2:], check=False).returncode
sys.exit(status)
