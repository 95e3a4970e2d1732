"""Whatever a request may hold becomes a command that every node reads: else it would be skipped and never answered."""

import pytest

from raftkv.core.config import KEY_BYTES_MAX
from raftkv.core.errors import Code
from raftkv.core.keys import LOCK_KEYS
from raftkv.core.requests import (
    ABSENT,
    ANY,
    MATCHES_MAX,
    Configure,
    Delete,
    Get,
    Increment,
    Put,
    Touch,
    Transaction,
    Write,
)
from raftkv.core.rights import Caller
from raftkv.formats import entries
from raftkv.formats.commands import BYTES_FORMAT, batch_parts
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


BYTES_KEY, OF_A_LEASE = b"k\xc3", b"\xffk"
STORING = [
    Put(key=BYTES_KEY, value=b""),
    Put(key=BYTES_KEY, value=b"", lease=1),
    Increment(key=BYTES_KEY),
    Transaction(success=(Put(key=b"k", value=b""), Transaction(failure=(Put(key=BYTES_KEY, value=b""),)))),
]


@pytest.mark.parametrize("caller", [None, Caller("ann", 1)])
@pytest.mark.parametrize("operation", STORING, ids=lambda one: type(one).__name__)
def test_a_key_that_is_no_text_is_stored_once_all_read_the_format_whose_front_ends_tell_of_it(operation, caller):
    assert proposal_of(Write(operations=(operation,), caller=caller)).least_format == BYTES_FORMAT


@pytest.mark.parametrize(
    "operation",
    [
        Put(key="k\u00e9".encode(), value=b"\xff"),
        Put(key=LOCK_KEYS + b"name\0", value=b"", lease=1),
        Delete(key=BYTES_KEY),
        Touch(key=BYTES_KEY, ttl_ms=1),
    ],
    ids=lambda one: type(one).__name__,
)
def test_all_else_goes_out_as_before(operation):
    assert proposal_of(Write(operations=(operation,))).least_format < BYTES_FORMAT


@pytest.mark.parametrize(
    "operation", [Put(key=OF_A_LEASE, value=b"", ttl_ms=1), Touch(key=OF_A_LEASE, ttl_ms=1)], ids=["put", "touch"]
)
def test_no_key_expires_by_a_row_that_would_be_a_leases(operation):
    for refused in (operation, Transaction(success=(Transaction(failure=(operation,)),))):
        assert proposal_of(Write(operations=(refused,))).code is Code.BAD_REQUEST
