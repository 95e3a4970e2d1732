"""A bucket of S3, or of what speaks its protocol, in which a schedule keeps its backups.

The module imports what ``raftkv[s3]`` installs; nobody imports it unless ``backup.s3_bucket`` is set. It is boto3 that
finds credentials and region, as AWS's own tools do: environment, files, the role of the machine or the pod. None is in
the configuration, nor in any line of the log.

Rules: an object appears once all of it was taken, which S3 itself sees to, part by part with checksums; only what a
schedule of the same cluster has put there is counted or removed, which is known by name and by what it is marked with.
One part is in memory at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from raftkv.backup.keeping import KeptBackup, made_s_in, name_of
from raftkv.core.backups import BackupSection
from raftkv.core.errors import StartupError
from raftkv.formats.backups import MEDIA_TYPE

FAILURES: Final = (BotoCoreError, ClientError, Boto3Error)
"""All that boto3 raises."""

PART_BYTES: Final = 16 << 20
"""S3 takes 10,000 parts of an object: so one of 156 GiB at most."""

_MARK: Final = "raftkv-cluster"
_CONNECT_S: Final = 10
_READ_S: Final = 60
_ATTEMPTS: Final = 5


class BackupBucket:
    """The backups of ``cluster`` in the bucket of ``section``, as ``node`` sees them."""

    def __init__(self, section: BackupSection, cluster: str, node: str) -> None:
        """Raises ``StartupError`` where the region cannot be made out."""
        self._bucket = section.s3_bucket
        self._prefix = section.s3_prefix
        self._cluster = cluster
        self._mark = quote(cluster, safe="")  # metadata are ASCII
        self._node = node
        settings = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        )
        self._transfer = TransferConfig(
            multipart_chunksize=PART_BYTES,
            multipart_threshold=PART_BYTES,
            use_threads=False,
            max_bandwidth=section.bytes_per_s or None,
        )
        with _told(self._where("")):
            self._client: Any = boto3.session.Session().client(
                "s3", endpoint_url=section.s3_endpoint or None, config=settings
            )

    def _where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def held(self) -> list[KeptBackup]:
        """Those that are there. Raises ``StartupError``."""
        found = []
        with _told(self._where("")):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for page in pages:
                for item in page.get("Contents", ()):
                    name = str(item["Key"]).removeprefix(self._prefix)
                    made_s = made_s_in(name, self._cluster)
                    if made_s is not None:
                        found.append(KeptBackup(name, made_s, int(item["Size"])))
        return found

    def put(self, draft: Path, name: str) -> None:
        """Keep ``draft`` as ``name``. Raises ``StartupError``."""
        with _told(self._where(name)):
            self._end_left()
            self._client.upload_file(
                str(draft),
                self._bucket,
                self._prefix + name,
                ExtraArgs={"Metadata": {_MARK: self._mark}, "ContentType": MEDIA_TYPE},
                Config=self._transfer,
            )
            taken_bytes = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)["ContentLength"]
        if taken_bytes != draft.stat().st_size:
            raise StartupError(f"{self._where(name)}: has {taken_bytes} bytes of {draft.stat().st_size}")

    def _end_left(self) -> None:
        """What this node began to upload before it was killed takes up room, though nobody sees it."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for begun in page.get("Uploads", ()):
                name = str(begun["Key"]).removeprefix(self._prefix)
                made_s = made_s_in(name, self._cluster)
                if made_s is not None and name == name_of(self._cluster, self._node, made_s):
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=begun["Key"], UploadId=begun["UploadId"]
                    )

    def remove(self, name: str) -> None:
        """Remove one of those that are held, unless it is not marked as ours. Raises ``StartupError``."""
        with _told(self._where(name)):
            found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            if found.get("Metadata", {}).get(_MARK) == self._mark:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """Let what boto3 raises leave as a ``StartupError`` of one line about ``where``."""
    try:
        yield
    except FAILURES as error:
        raise StartupError(f"{where}: {' '.join(str(error).split())}") from None
