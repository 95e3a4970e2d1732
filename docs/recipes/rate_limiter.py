"""At most so many requests of a user in a minute, over all servers: ``python rate_limiter.py USER LIMIT``."""

import sys
import time

from raftkv import Client, DefiniteError


def is_allowed(store: Client, user: str, limit: int, window_s: int = 60) -> bool:
    """Count one more, in one request, unless the limit is reached; what was counted expires by itself."""
    key = f"rate/{user}/{int(time.time()) // window_s}"
    try:
        with store.transaction() as t:
            t.require(key, exists=False)
            t.set(key, "1", ttl=2 * window_s)
            t.otherwise().increment(key, maximum=limit)
    except DefiniteError as error:
        if error.code != "out_of_bounds":
            raise
        return False
    return True


if __name__ == "__main__":
    with Client() as store:
        allowed = is_allowed(store, sys.argv[1], int(sys.argv[2]))
        print("allowed" if allowed else "denied")
        sys.exit(0 if allowed else 1)
