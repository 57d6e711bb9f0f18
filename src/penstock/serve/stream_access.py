"""Checks while a stream is sent whether its caller may still read what it follows."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import Scope

from penstock.auth import Permission, access_of
from penstock.errors import PenstockError
from penstock.records import Access
from penstock.serve.authentication import renewed_principal

# A revoked key is noticed by its file's reader within a second: so a stream ends within 5 s.
CHECK_EVERY_S = 3.0


class StreamAccess:
    """The access of a stream, which ends when a key is revoked, a token expires, or labels are taken away.

    Args:
        scope: of the request.
        permission: that the route demands.
        access: that the stream began with.
        clock: seconds, monotonic.
    """

    def __init__(
        self, scope: Scope, permission: Permission, access: Access, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scope = scope
        self._permission = permission
        self._access = access
        self._clock = clock
        self._checked_s = clock()

    @property
    def due_s(self) -> float:
        """The seconds until the next check; 0: it is due."""
        return max(0.0, self._checked_s + CHECK_EVERY_S - self._clock())

    async def holds(self) -> bool:
        """Returns whether the caller still has this access, looking at its credentials again if that is due.

        It has not if they cannot be checked now: a new request would be refused, too.
        """
        if self.due_s > 0:
            return True
        self._checked_s = self._clock()
        try:
            caller = await renewed_principal(self._scope)
            named = self._access.tenant
            return caller.may(self._permission) and access_of(caller, named, default_tenant=named) == self._access
        except PenstockError:
            return False
