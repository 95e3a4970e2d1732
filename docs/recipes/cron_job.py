"""A nightly job that cron starts on every machine and that runs once: ``python cron_job.py NAME DAY COMMAND...``.

One machine gets the lock; the others see it held, or that the day's work is done, and leave it. A machine that dies
in the middle leaves the lock within half a minute, and the work undone: the next start does it.
"""

import subprocess
import sys

from raftkv import Client, LockHeld

name, day, *command = sys.argv[1:]
with Client() as store:
    try:
        with store.lock(f"cron/{name}", ttl=30, wait=0) as lock:
            if f"cron/{name}/{day}" in store:
                print("done already")
            else:
                subprocess.run(command, check=True)
                lock.check()
                store.set(f"cron/{name}/{day}", b"done", ttl=7 * 86_400)
    except LockHeld as held:
        print("runs elsewhere:", held)
