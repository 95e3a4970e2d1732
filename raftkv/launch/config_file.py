"""The configuration as a file on this machine: read, checked against what is really there, its paths resolved.

``raftkv.core.config`` checks what the text alone can tell; here is the rest: does the secret exist and is it kept, are
the TLS files there, could the data directory be written. Every refusal is one ``StartupError`` that reads ``FILE: KEY:
REASON``. ``load_cluster`` creates nothing, so that a refused start leaves no trace; ``ensure_secret`` is the one that
writes. This module must not import ``raftkv.node``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from raftkv.core.config import AuthSection, ClusterConfig, ConfigError, HttpSection, PeersSection, parse_address
from raftkv.core.environment import read_config, refusal
from raftkv.core.errors import StartupError
from raftkv.core.passwords import VARIABLE, password_in
from raftkv.core.passwords import weakness as weakness_of_password
from raftkv.core.secret import weakness

_GROUP: Final = 0o070
"""Held against files of our own only: where a container mounts one of root's, the group is how we may read it."""
_OTHERS: Final = 0o007

_TLS_FILES: Final = (
    ("http", ("tls_cert", "tls_key", "tls_ca", "tls_client_ca")),
    ("peers", ("tls_cert", "tls_key", "tls_ca")),
)

NAME_BYTES_MAX: Final = 255
"""The longest name of a file or directory (NAME_MAX of Linux)."""

PATH_BYTES_MAX: Final = 4096 - 512
"""The longest path of Linux (PATH_MAX), less what a node puts behind it."""


def load_cluster(path: Path | None, *, seeds: tuple[str, ...] = ()) -> ClusterConfig:
    """The cluster that ``path`` and the environment describe, all paths in it absolute; raises ``StartupError``.

    Without ``path`` the environment says it all. ``seeds`` are addresses of nodes to join, besides the configured.
    """
    config = resolved(path, seeds=seeds)
    try:
        for check in checks(config):
            check()
    except ConfigError as error:
        raise refusal(error, path, os.environ) from None
    return config


def resolved(path: Path | None, *, seeds: tuple[str, ...] = ()) -> ClusterConfig:
    """As ``load_cluster``, before anything is held against the machine."""
    config = read_config(path, os.environ)
    try:
        return _joining(_resolved(config, Path.cwd() if path is None else path.resolve().parent), seeds)
    except ConfigError as error:
        raise refusal(error, path, os.environ) from None


def _resolved(config: ClusterConfig, directory: Path) -> ClusterConfig:
    """``config`` with its paths, which are relative to the file, made absolute."""

    def absolute(key: str, text: str, *, follows: bool = True) -> str:
        if "\0" in text:
            raise ConfigError(f"{key}: no path holds the character NUL")
        # A name that is too long for the file system is refused where the path is looked at, with its key.
        follow = os.path.realpath if follows else os.path.abspath
        return follow(directory / text) if text else ""

    # Certificates are read anew while the node runs, often through links that lead elsewhere by then: not followed.
    def certificates(section: str, given: HttpSection | PeersSection) -> dict[str, str]:
        return {
            key: absolute(f"{section}.{key}", getattr(given, key), follows=False) for key in dict(_TLS_FILES)[section]
        }

    replace = msgspec.structs.replace
    cluster, http, auth, peers, backup = config.cluster, config.http, config.auth, config.peers, config.backup
    return replace(
        config,
        cluster=replace(
            cluster,
            data_dir=absolute("cluster.data_dir", cluster.data_dir),
            secret_file=absolute("cluster.secret_file", cluster.secret_file),
        ),
        http=replace(http, **certificates("http", http)),
        backup=replace(backup, directory=absolute("backup.directory", backup.directory)),
        auth=replace(auth, root_password_file=absolute("auth.root_password_file", auth.root_password_file)),
        peers=replace(peers, **certificates("peers", peers)),
    )


def _joining(config: ClusterConfig, seeds: tuple[str, ...]) -> ClusterConfig:
    """``config`` with more ``seeds``."""
    if not seeds:
        return config
    for seed in seeds:
        try:
            parse_address(seed)
        except ValueError as error:
            raise ConfigError(f"--join: {error}") from None
    joined = tuple(dict.fromkeys((*config.seeds, *seeds)))
    replace = msgspec.structs.replace
    if config.cluster.mode == "raft":
        return replace(config, raft=replace(config.raft, seeds=joined))
    return replace(config, quorum=replace(config.quorum, seeds=joined))


def _check_members(config: ClusterConfig) -> None:
    """A new cluster needs as many nodes as a key has replicas; a node that joins one finds the others there."""
    size, quorum = len(config.node), config.quorum
    if config.cluster.mode == "quorum" and quorum.n > size and not quorum.seeds:
        hint = "a node that joins a running cluster names it in quorum.seeds or --join"
        raise ConfigError(f"quorum.n: {quorum.n} replicas need as many nodes, but there are {size} ({hint})")


def checks(config: ClusterConfig) -> Iterator[Callable[[], None]]:
    """What is looked at before a start: each raises ``ConfigError`` if something is wrong, and creates nothing."""
    yield partial(_check_members, config)
    yield partial(_check_directory, "cluster.data_dir", config.cluster.data_dir)
    if config.backup.interval_s:
        yield partial(_check_directory, "backup.directory", config.backup.directory)
        yield partial(_check_bucket, config.backup.s3_bucket)
    for section, keys in _TLS_FILES:
        for key in keys:
            named = getattr(getattr(config, section), key)
            if named:
                yield partial(_check_own if key == "tls_key" else _check_readable, f"{section}.{key}", Path(named))
    yield partial(_check_auth, config.auth)
    if config.cluster.secret_file:
        yield partial(_check_secret, "cluster.secret_file", config.cluster.secret_path)
    elif config.cluster.data_dir and config.cluster.secret_path.exists():
        yield partial(_check_secret, "cluster.data_dir", config.cluster.secret_path)


def _check_auth(auth: AuthSection) -> None:
    if auth.root_password_file:
        content = _read_own("auth.root_password_file", Path(auth.root_password_file))
        try:
            password_in(content)
        except ValueError as error:
            raise ConfigError(f"auth.root_password_file: {auth.root_password_file} {error}") from None
    if auth.enabled and VARIABLE in os.environ and (reason := weakness_of_password(os.environ[VARIABLE])) is not None:
        raise StartupError(f"{VARIABLE} {reason}")


def _check_directory(key: str, named: str) -> None:
    """Could the directory, or the way to it, be made? Asked of the nearest directory that exists."""
    if not named:
        raise ConfigError(f"{key}: must not be empty")
    directory = Path(named)
    if len(os.fsencode(directory)) > PATH_BYTES_MAX:
        raise ConfigError(f"{key}: the path has more than {PATH_BYTES_MAX} bytes")
    existing = directory
    while not os.path.lexists(existing) and existing != existing.parent:
        if len(os.fsencode(existing.name)) > NAME_BYTES_MAX:
            raise ConfigError(f"{key}: {existing.name[:20]}... has more than {NAME_BYTES_MAX} bytes")
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError(f"{key}: {existing} is not a directory")
    reason = _why_unwritable(existing)
    if reason is not None:
        raise ConfigError(f"{key}: {existing} cannot be written: {reason}")


def _check_bucket(name: str) -> None:
    if name and find_spec("boto3") is None:
        raise ConfigError("backup.s3_bucket: needs boto3, which is not installed: pip install 'raftkv[s3]'")


def _why_unwritable(directory: Path) -> str | None:
    """Permission bits do not tell the truth to root, so a file without a name is opened: it leaves nothing behind."""
    if not os.access(directory, os.W_OK | os.X_OK):
        return os.strerror(errno.EACCES)
    nameless = getattr(os, "O_TMPFILE", None)
    if nameless is None:
        return None
    try:
        os.close(os.open(directory, nameless | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        # Some file systems know no nameless files; what they say then is no answer to our question.
        return None if error.errno in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL} else error.strerror
    return None


def _check_readable(key: str, path: Path) -> None:
    _read_regular(key, path, 1)


def _check_own(key: str, path: Path) -> None:
    _read_own(key, path)


def _check_secret(key: str, path: Path) -> None:
    """A secret is a regular file that nobody else can read, and nothing that can be guessed."""
    secret = _read_own(key, path).strip()
    reason = weakness(secret)
    if reason is not None:
        raise ConfigError(f"{key}: {path} {reason}")


def _read_own(key: str, path: Path) -> bytes:
    """What stands in the regular file at ``path``, which nobody else may read."""
    content, found = _read_regular(key, path, 1 << 16)
    mode = stat.S_IMODE(found.st_mode)
    if mode & (_OTHERS | _GROUP if found.st_uid == os.geteuid() else _OTHERS):
        raise ConfigError(f"{key}: {path} is open to other users (mode {mode:04o}); chmod 600 it")
    return content


def _read_regular(key: str, path: Path, size_bytes: int) -> tuple[bytes, os.stat_result]:
    """The first bytes of the file at ``path``, which every process of a node can read again, and what it is.

    A pipe has its content once, and whoever opens one waits for its writer: so nothing is waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                kind = os.strerror(errno.EISDIR) if stat.S_ISDIR(found.st_mode) else "not a regular file"
                raise ConfigError(f"{key}: {path}: {kind}")
            return file.read(size_bytes), found
    except OSError as error:
        raise ConfigError(f"{key}: {path}: {error.strerror}") from None


def ensure_secret(config: ClusterConfig) -> None:
    """Make a random secret in the data directory of a cluster that was given none; raises ``StartupError``.

    Only a cluster whose peers are all loopback comes without one. Nodes may start at the same moment: the secret is
    written under another name and linked into place, so that one wins and nobody reads half of it.
    """
    if config.cluster.secret_file:
        return
    path = config.cluster.secret_path
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _place(path, f"{secrets.token_hex(32)}\n".encode())
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from None


def _place(path: Path, content: bytes) -> None:
    """Create ``path`` with ``content``, readable by this user alone, unless it is there already."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


EMBEDDED_NAME: Final = "cluster.toml"

EMBEDDED: Final = """\
# The cluster that `raftkv up` starts when it is given no configuration: three nodes on this machine.
# This file was written on the first start and is used again on the next; change it as you like.

[cluster]
name = "embedded"
mode = "raft"
data_dir = "."                # relative to this file; the secret of the cluster is made here too

[[node]]
id = "n1"
http = "127.0.0.1:8001"       # where clients ask
peer = "127.0.0.1:9001"       # where the other nodes ask

[[node]]
id = "n2"
http = "127.0.0.1:8002"
peer = "127.0.0.1:9002"

[[node]]
id = "n3"
http = "127.0.0.1:8003"
peer = "127.0.0.1:9003"
"""


def embedded_config(directory: Path) -> Path:
    """The embedded cluster's configuration in ``directory``, written if it is not there; raises ``StartupError``."""
    path = directory / EMBEDDED_NAME
    if path.exists():
        return path
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _place(path, EMBEDDED.encode())
        path.chmod(0o644)
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from None
    return path
