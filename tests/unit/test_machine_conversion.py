"""Whatever a request may hold becomes a command that every node reads: else it would be skipped and never answered."""

import pytest

from raftkv.core.config import KEY_BYTES_MAX
from raftkv.core.requests import ABSENT, ANY, MATCHES_MAX, Configure, Delete, Get, Put, Write
from raftkv.formats import entries
from raftkv.formats.commands import batch_parts
from raftkv.machine.conversion import command_of, proposal_of

LONGEST = b"k" * KEY_BYTES_MAX
LATEST = 1 << 62


@pytest.mark.parametrize(
    "request_",
    [
        Write(operations=()),
        Write(operations=(Put(key=b"k", value=b""),)),
        Write(operations=(Put(key=LONGEST, value=b"\xff" * 70_000, match=LATEST, ttl_ms=1 << 48),)),
        Write(operations=(Put(key=b"k", value=b"v", match=tuple(range(LATEST, LATEST - MATCHES_MAX, -1))),)),
        Write(operations=(Delete(key=LONGEST, match=ANY), Delete(key=b"k", match=ABSENT), Get(key=LONGEST))),
        Write(operations=tuple(Put(key=b"%d" % number, value=b"") for number in range(10_000)), idempotency_key="i"),
        Configure(r=1 << 16, w=1),
    ],
    ids=lambda request_: repr(request_)[:40],
)
def test_a_request_at_its_bounds_is_a_command_that_is_read(request_):
    proposal = proposal_of(request_)
    body = b"".join(batch_parts((1 << 64) - 1, 7, [proposal.command]))

    _, batch = entries.decode(entries.stamp(proposal.least_format, LATEST) + body)
    assert batch.commands == (command_of(request_),)
