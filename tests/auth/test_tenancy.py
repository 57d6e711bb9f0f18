"""The tenant of a request: one of the principal's, or the only one."""

from __future__ import annotations

import pytest

from penstock.auth import ANONYMOUS, access_of
from penstock.errors import ForbiddenError, QueryError
from penstock.records import Access
from tests.auth.test_principal import principal

LABELS = frozenset({"tenant"})


def test_the_only_tenant_is_meant_if_none_is_named() -> None:
    assert access_of(principal(), None, default_tenant="default") == Access("acme", LABELS)
    assert access_of(principal(), "acme", default_tenant="default") == Access("acme", LABELS)


def test_the_default_tenant_is_meant_only_by_those_who_read_all() -> None:
    assert access_of(ANONYMOUS, None, default_tenant="default") == Access("default", None)
    assert access_of(ANONYMOUS, "acme", default_tenant="default") == Access("acme", None)


def test_another_tenant_is_refused_without_its_name() -> None:
    for tenant in ("umbrella", "default", "", "acme "):
        with pytest.raises(ForbiddenError) as raised:
            access_of(principal(), tenant, default_tenant="default")
        assert str(raised.value) == "the credentials do not permit this tenant"
    with pytest.raises(ForbiddenError):
        access_of(principal(tenants=frozenset()), None, default_tenant="default")


def test_several_tenants_are_not_listed() -> None:
    with pytest.raises(QueryError) as raised:
        access_of(principal(tenants=frozenset({"acme", "umbrella"})), None, default_tenant="acme")
    assert raised.value.status == 400
    assert raised.value.field == "/tenant"
    assert "acme" not in str(raised.value)
    assert "umbrella" not in str(raised.value)
