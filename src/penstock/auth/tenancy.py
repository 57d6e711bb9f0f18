"""Chooses the tenant of a request among those of its principal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from penstock.auth.principal import Principal
from penstock.errors import ForbiddenError, QueryError
from penstock.records import Access

AccessOf: TypeAlias = Callable[[str | None], Access]
"""Returns what a request may read, by the tenant that it names; None: it names none. Raises as `access_of`."""


def access_of(principal: Principal, tenant: str | None, *, default_tenant: str) -> Access:
    """Returns what a request may read.

    Args:
        principal: of the request.
        tenant: that the request names; None: it names none, so that its principal's only tenant is meant.
        default_tenant: that is meant instead if the principal may read all tenants.

    Raises:
        ForbiddenError: the tenant is not one of the principal's. The same for one that does not exist.
        QueryError: 400, none is named, and the principal has several.
    """
    if tenant is None:
        return principal.access(default_tenant if principal.tenants is None else _only_tenant(principal.tenants))
    if not principal.reads(tenant):
        raise ForbiddenError("the credentials do not permit this tenant")
    return principal.access(tenant)


def _only_tenant(tenants: frozenset[str]) -> str:
    if not tenants:
        raise ForbiddenError("the credentials permit no tenant")
    if len(tenants) > 1:
        raise QueryError("the credentials are for several tenants: name one of them as tenant", field="/tenant")
    return next(iter(tenants))
