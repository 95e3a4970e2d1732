"""Show a configuration, and again whenever it changes: ``python reload.py PREFIX``."""

import sys

from raftkv import Client

for settings in Client().mirror(sys.argv[1]):
    print(dict(sorted(settings.items())), flush=True)
