"""The caller of a request: its tenants, its permissions and the labels that it may read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.records import Access


class Permission(StrEnum):
    """The permissions of a principal. `ADMIN` includes all others."""

    SEARCH = "search"
    ASK = "ask"
    FEEDBACK = "feedback"
    EVENTS = "events"
    MEDIA = "media"
    STATUS = "status"
    REPLAY = "replay"
    REINDEX = "reindex"
    PURGE = "purge"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request, as its credentials prove.

    Attributes:
        subject: `key:<id>`, `oidc:<issuer's sub>` or `anonymous`.
        tenants: that it may read. None: all, where `auth.mode` is none, and for operators.
        permissions: what it may do.
        labels: of the entries that it may read. None: all, as with tenants.
        key_id: of its API key, if it has one.
    """

    subject: str
    tenants: frozenset[str] | None
    permissions: frozenset[Permission]
    labels: frozenset[str] | None
    key_id: str | None = None

    def may(self, permission: Permission) -> bool:
        """Returns whether the principal has a permission."""
        return permission in self.permissions or Permission.ADMIN in self.permissions

    def reads(self, tenant: str) -> bool:
        """Returns whether the principal may read a tenant."""
        return self.tenants is None or tenant in self.tenants

    @property
    def reads_all(self) -> bool:
        """Whether the principal may read the whole index, so that it may know how large that is."""
        return self.tenants is None and self.labels is None

    def access(self, tenant: str) -> Access:
        """Returns what the principal may read of a tenant that it `reads`."""
        return Access(tenant, self.labels)


ANONYMOUS = Principal("anonymous", None, frozenset(Permission), None)
"""Every caller, where `auth.mode` is none."""
