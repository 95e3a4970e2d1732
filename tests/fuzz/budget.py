"""How many inputs an attack makes up, and who chooses them.

Without ``RAFTKV_FUZZ_EXAMPLES`` a short run, the same every time. With it, that many inputs for each attack, chosen
anew, or as ``RAFTKV_FUZZ_SEED`` says: the seed of a run is in the first lines that pytest prints.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings

EXAMPLES = int(os.environ.get("RAFTKV_FUZZ_EXAMPLES", "0"))
SEED = int(os.environ.get("RAFTKV_FUZZ_SEED", "0")) or (random.randrange(1, 1 << 32) if EXAMPLES else 1)

# Inputs are not shrunk: a node that an input has stopped stays stopped for all that come after it.
_BOUNDS = settings(
    max_examples=EXAMPLES or 25,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def made_up(test: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``test``, which has ``@given``, inputs within the budget."""
    return _BOUNDS(seed(SEED)(test))
