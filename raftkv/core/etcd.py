"""``[etcd]``: the etcd v3 API beside the native one."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class EtcdSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``version`` is the etcd that clients are told they speak to."""

    enabled: bool = True
    version: Annotated[str, Meta(pattern=r"^3\.[0-9]{1,2}\.[0-9]{1,3}$")] = "3.5.21"
