"""``python -m raftkv``, and the console script: an interrupt while commands are still being imported is one as well."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an interrupt before it can see to that itself ends with its status, and no traceback."""
    try:
        from raftkv.cli.main import main as run  # noqa: PLC0415  what takes the time in which people change their minds

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
