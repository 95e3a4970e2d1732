"""``python -P -m raftkv``, and the console script: what must be so before any other module is imported.

Nothing of the current directory is executed, the standard descriptors are open, text is UTF-8, and an interrupt while
commands are still being imported is one as well.
"""

from __future__ import annotations

import sys

from raftkv.process import command, descriptors


def main() -> None:
    """Run the command line; an interrupt before it can see to that itself ends with its status, and no traceback."""
    descriptors.open_missing()
    command.speak_utf8()
    command.forget_current_directory()
    try:
        from raftkv.cli.main import main as run  # noqa: PLC0415  what takes the time in which people change their minds

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
