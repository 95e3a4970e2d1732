"""``[etcd]``: the etcd v3 API beside the native one."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class EtcdSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``version`` is the etcd that clients are told they speak to."""

    enabled: bool = True
    version: Annotated[str, Meta(pattern=r"^3\.[0-9]{1,2}\.[0-9]{1,3}$")] = "3.5.21"

    def fault(self, address: str, bind: str, *, mode: str) -> str | None:
        """What is wrong with ``etcd`` and ``etcd_bind`` of a node, if anything is: the key and the reason."""
        if address and not self.enabled:
            return "etcd: of no use where etcd.enabled is false"
        if address and mode == "quorum":
            return "etcd: of no use in quorum mode, where there is no order of all writes, as etcd's clients need it"
        if bind and not address:
            return "etcd_bind: of no use without etcd, the address that clients are told"
        return None
