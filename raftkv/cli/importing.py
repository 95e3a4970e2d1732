"""``raftkv import``: keys of an etcd, copied into this cluster."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
import msgspec

from raftkv.cli import connection, exits, output
from raftkv.cli.keys import json_option, key_of, to_line
from raftkv.core.keys import SYSTEM
from raftkv.formats.layout import LEASE_MARK

if TYPE_CHECKING:
    from raftkv.cli.etcd_source import EtcdSource, SourceKey
    from raftkv.client import Client, Record

READ_WITHIN_S: Final = 30.0
WRITTEN_AT_ONCE: Final = 100
WRITTEN_BYTES: Final = 512 << 10
"""Of values in one request, which each node takes whatever it is configured for, unless one value alone is longer."""

NAMED_MAX: Final = 10
_PORT: Final = re.compile(r":\d+/?$")
PASSWORD: Final = "RAFTKV_IMPORT_PASSWORD"  # noqa: S105  a variable's name


class Copied(msgspec.Struct):
    """How many keys became what. ``lent`` are those that go when what their lease had left is over."""

    revision: int = 0
    new: int = 0
    overwritten: int = 0
    unchanged: int = 0
    lent: int = 0
    left_out: int = 0

    @property
    def seen(self) -> int:
        """How many were looked at."""
        return self.new + self.overwritten + self.unchanged + self.left_out


class _Put(NamedTuple):
    key: str
    value: bytes
    ttl_s: float | None


@click.command("import", short_help="Copy the keys of an etcd into this cluster.")
@click.option("--from-etcd", "source", metavar="URL", required=True, help="Where it serves, as HOST:PORT or a URL.")
@click.option("--prefix", default="", metavar="PREFIX", help="Only the keys that begin with PREFIX.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--from-user", metavar="NAME[:PASSWORD]", help="Ask it as NAME; or RAFTKV_IMPORT_PASSWORD.")
@click.option("--from-cacert", type=click.Path(path_type=Path), metavar="FILE", help="Certificates to trust there.")
@click.option("--from-cert", type=click.Path(path_type=Path), metavar="FILE", help="A certificate to show there.")
@click.option("--from-cert-key", type=click.Path(path_type=Path), metavar="FILE", help="Its key, if not in FILE too.")
@json_option
@connection.options
@click.pass_context
def import_(context: click.Context, /, source: str, *, prefix: str, dry_run: bool, as_json: bool, **given: Any) -> int:
    """Copy the keys of an etcd, as they stand at one revision of it, into this cluster.

    It may be repeated: keys that are equal already are left alone, others are overwritten and counted, and none is
    removed. Keys with a lease are given the time that the lease has left; leases themselves, users, roles and history
    are not copied. Keys that there cannot be here (docs/etcd.rst) are left out, and the exit status is 1.
    """
    from raftkv.cli.etcd_source import SourceError  # noqa: PLC0415  commands load what they use

    etcd = _source(source, given)
    link = connection.chosen(context, given)
    copied = Copied()
    try:
        with link.client() as client:
            _copy(etcd, prefix, client, copied, is_dry=dry_run)
    except SourceError as error:
        exits.complain(f"{error} ({copied.seen} keys were looked at)")
        return exits.UNAVAILABLE
    copied.revision = etcd.revision
    output.confirm(to_line(copied) if as_json else _told(copied, is_dry=dry_run))
    return exits.NOT_FOUND if copied.left_out else exits.DONE


def _source(url: str, given: dict[str, Any]) -> EtcdSource:
    from raftkv.cli.etcd_source import EtcdSource  # noqa: PLC0415  commands load what they use
    from raftkv.client.channels import Channels  # noqa: PLC0415
    from raftkv.client.reach import host_of, trusting  # noqa: PLC0415
    from raftkv.client.servers import parse_servers  # noqa: PLC0415

    user, ca = given.pop("from_user"), given.pop("from_cacert")
    cert, key = given.pop("from_cert"), given.pop("from_cert_key")
    if key and not cert:
        raise click.UsageError("--from-cert-key: it is of no use without --from-cert")
    host = host_of(*parse_servers((url if _PORT.search(url) else f"{url}:2379",)))
    shown = None if cert is None else (str(cert), str(key or cert))
    tls = trusting(ca and str(ca), shown) if host.is_tls else None
    return EtcdSource(host, Channels(tls=tls), user=_user(user), timeout_s=READ_WITHIN_S)


def _user(given: str | None) -> tuple[str, str] | None:
    if not given:
        return None
    name, colon, password = given.partition(":")
    if not colon:
        password = os.environ.get(PASSWORD, "")
        if not password:
            raise click.UsageError(f"--from-user: {PASSWORD} gives the password of {name}, or NAME:PASSWORD")
    return name, password


def _copy(etcd: EtcdSource, prefix: str, client: Client, copied: Copied, *, is_dry: bool) -> None:
    """Raises ``SourceError``, and what clients raise."""
    progress = _Progress(etcd)
    lives: dict[int, int] = {0: 0}
    try:
        for page in etcd.pages(key_of(prefix)):
            puts = list(_puts(etcd, list(_named(page, copied)), client, lives, copied))
            for some in () if is_dry else _portions(puts):
                _write(client, some)
            progress.show(copied)
    finally:
        progress.end()


def _puts(
    etcd: EtcdSource, named: Sequence[tuple[str, SourceKey]], client: Client, lives: dict[int, int], copied: Copied
) -> Iterator[_Put]:
    """What is to be written of a page; ``lives`` is how long leases have left, as far as that was asked."""
    held = _held(client, named[0][0], named[-1][0]) if named else {}
    for key, one in named:
        if _is_same(held.get(key), one):
            copied.unchanged += 1
            continue
        if one.lease not in lives:
            lives[one.lease] = etcd.ttl_s(one.lease)
        ttl_s = lives[one.lease]
        if one.lease and ttl_s < 1:
            continue  # it has gone since
        copied.lent += bool(one.lease)
        copied.overwritten += key in held
        copied.new += key not in held
        yield _Put(key, one.value, ttl_s if one.lease else None)


def _named(page: Iterable[SourceKey], copied: Copied) -> Iterator[tuple[str, SourceKey]]:
    """The keys that there can be here; the others are told of, the first few by their bytes."""
    for one in page:
        if not one.key.startswith(SYSTEM) and not (one.lease and one.key.startswith(LEASE_MARK)):
            yield one.key.decode(errors="surrogateescape"), one
            continue
        copied.left_out += 1
        if copied.left_out <= NAMED_MAX:
            more = "; further ones are not named" if copied.left_out == NAMED_MAX else ""
            begins = "ff, and has a lease" if one.lease else "ff ff"
            exits.complain(f"left out, since it begins with {begins}: {output.escaped(one.key).decode()}{more}")


def _held(client: Client, first: str, last: str) -> dict[str, Record]:
    """What stands here between two keys, both included."""
    found: dict[str, Record] = {}
    start: str | None = first
    while start is not None:
        page = client.page(start=start, end=f"{last}\0")
        found |= {record.key: record for record in page.records}
        start = page.next
    return found


def _is_same(held: Record | None, wanted: SourceKey) -> bool:
    """Is it here already? What is to go some time is given its time anew."""
    return held is not None and held.value == wanted.value and held.ttl_left is None and not wanted.lease


def _portions(puts: Iterable[_Put]) -> Iterator[list[_Put]]:
    some: list[_Put] = []
    size_bytes = 0
    for put in puts:
        if some and (len(some) == WRITTEN_AT_ONCE or size_bytes + len(put.value) > WRITTEN_BYTES):
            yield some
            some, size_bytes = [], 0
        some.append(put)
        size_bytes += len(put.value)
    if some:
        yield some


def _write(client: Client, puts: Iterable[_Put]) -> None:
    """Raises what clients raise."""
    with client.transaction() as transaction:
        for put in puts:
            transaction.set(put.key, put.value, ttl=put.ttl_s)


class _Progress:
    """A line on a terminal's standard error that says how far it is."""

    def __init__(self, etcd: EtcdSource) -> None:
        self._etcd = etcd
        self._is_seen = sys.stderr.isatty()

    def show(self, copied: Copied) -> None:
        if self._is_seen:
            sys.stderr.write(f"\r{copied.seen:,} of {max(copied.seen, self._etcd.count):,} keys")
            sys.stderr.flush()

    def end(self) -> None:
        if self._is_seen:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _told(copied: Copied, *, is_dry: bool) -> bytes:
    would = "would be " if is_dry else ""
    became = f"{copied.new} {would}new, {copied.overwritten} {would}overwritten, {copied.unchanged} equal"
    lines = [f"{copied.seen} keys of revision {copied.revision}: {became}"]
    if copied.lent:
        lines.append(f"{copied.lent} with a lease, of which only the time that is left is kept")
    if copied.left_out:
        lines.append(f"{copied.left_out} left out")
    return "".join(f"{line}\n" for line in lines).encode()
