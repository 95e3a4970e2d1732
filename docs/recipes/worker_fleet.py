"""A fleet of workers of which one leads: ``python worker_fleet.py MY-NAME`` on as many machines as you like.

Who leads shows its token with all that it writes, so that what it wrote too late can be told from its successor's.
"""

import sys
import time

from raftkv import Client, DefiniteError, IndefiniteError

name, store = sys.argv[1], Client(timeout_s=5.0)
election = store.election("fleet")
while True:
    try:
        with election.campaign(name, ttl=5, wait=3600) as lead:
            print("leads", lead.token, flush=True)
            while not lead.is_lost:
                time.sleep(0.1)  # one step of the work goes here, with lead.token
    except (DefiniteError, IndefiniteError) as error:  # lost, not won, or no cluster for a while
        print("does not lead:", error, flush=True)
        time.sleep(1)
