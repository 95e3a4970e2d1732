"""A counter that loses nothing, however many count: ``python counter.py NAME``."""

import sys

from raftkv import Client

print(Client().increment(sys.argv[1]))
