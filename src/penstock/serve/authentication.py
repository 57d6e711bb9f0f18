"""Finds the principal of each request, and checks its permission for the route before the body is read.

    `Authentication` (around all routes) ─► `request.state.principal`, or the error that a route will raise
    a route of `permitted(…)` ─► raises that error, or ForbiddenError; an open one serves all callers

Routes without a permission do not exist: those that other packages add (`/docs`) get one by `protect`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from penstock.auth import Authenticator, Permission, Principal
from penstock.errors import ForbiddenError, PenstockError
from penstock.serve.named_tenant import admit_named_tenant

RouteHandler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]

_STATE: Final = "principal"
_THREADS = 2  # one fetches the provider's keys, and those behind it wait for the same keys
_RENEWAL: Final = "renewed_principal"


class Authentication:
    """Middleware that puts the principal of a request into its state, or why there is none.

    It refuses nothing itself, as some routes are open to all callers.

    Args:
        app: the application behind it.
        authenticator: finds principals.
    """

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator
        # Of its own: strangers can make tokens wait for a slow provider, and other work shares the event loop's.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="authentication")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application with the principal of the request."""
        if scope["type"] == "http" and _STATE not in scope.setdefault("state", {}):
            renewal = partial(self._principal, Headers(scope=scope).get("authorization"))
            scope["state"][_STATE] = await renewal()
            scope["state"][_RENEWAL] = renewal
        await self._app(scope, receive, send)

    async def _principal(self, authorization: str | None) -> Principal | PenstockError:
        try:
            if self._authenticator.waits(authorization):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._authenticator.authenticate, authorization)
            return self._authenticator.authenticate(authorization)
        except PenstockError as exc:
            return exc


class PermittedRoute(APIRoute):
    """A route for principals of a permission. Subclasses by `permitted`; None: open to all callers."""

    permission: ClassVar[Permission | None]

    def get_route_handler(self) -> RouteHandler:
        """Returns the handler of the route behind the check, which comes before the body is read."""
        handler = super().get_route_handler()
        permission = self.permission
        if permission is None:
            return handler

        async def checked(request: Request) -> Response:
            await admit_named_tenant(request, check_permission(request.scope, permission))
            return await handler(request)

        return checked


def permitted(permission: Permission | None) -> type[PermittedRoute]:
    """Returns the class of routes for principals of a permission; None: for all callers."""
    return type("PermittedRoute", (PermittedRoute,), {"permission": permission})


class ProtectedApp:
    """An ASGI application for principals of a permission."""

    def __init__(self, app: ASGIApp, permission: Permission) -> None:
        self._app = app
        self.permission = permission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the application if the principal has the permission. Raises as `check_permission`."""
        check_permission(scope, self.permission)
        await self._app(scope, receive, send)


def on_behalf_of(scope: Scope, app: ASGIApp) -> ASGIApp:
    """Returns an application for requests within the process that are made for the principal of a request."""
    principal = scope.get("state", {}).get(_STATE)

    async def called(inner: Scope, receive: Receive, send: Send) -> None:
        await app({**inner, "state": {_STATE: principal}} if principal is not None else inner, receive, send)

    return called


def protect(routes: Iterable[BaseRoute], permission: Permission) -> None:
    """Requires a permission for all routes that have none, such as those of `/docs`.

    Raises:
        TypeError: the routes of an included router have none. They would be open by mistake.
    """
    for route in routes:
        if not isinstance(route, (Route, Mount)) or isinstance(route, PermittedRoute):
            continue
        if not isinstance(route.app, ProtectedApp):
            route.app = ProtectedApp(route.app, permission)
    deque(permissions(routes), maxlen=0)


def permissions(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, Permission | None]]:
    """Yields the path of each route with its permission; None: it is open to all callers.

    Raises:
        TypeError: a route has no permission.
    """
    for route in routes:
        included: APIRouter | None = getattr(route, "original_router", None)
        if included is not None:
            yield from permissions(included.routes)
        elif isinstance(route, PermittedRoute):
            yield route.path, route.permission
        elif isinstance(route, (Route, Mount)) and isinstance(route.app, ProtectedApp):
            yield route.path, route.app.permission
        else:
            raise TypeError(f"the route {getattr(route, 'path', route)} has no permission: see `permitted`")


def check_permission(scope: Scope, permission: Permission) -> Principal:
    """Returns the principal of a request.

    Raises:
        UnauthenticatedError: it has no valid credentials.
        ForbiddenError: the principal lacks the permission.
        UnavailableError: the credentials cannot be checked now.
    """
    caller = principal_of(scope)
    if not caller.may(permission):
        raise ForbiddenError(f"the credentials do not have the permission {permission}")
    return caller


async def renewed_principal(scope: Scope) -> Principal:
    """Returns the principal of a request by its credentials as they are valid now. Raises as `check_permission`."""
    renewal: Callable[[], Coroutine[Any, Any, Principal | PenstockError]] | None = scope["state"].get(_RENEWAL)
    caller = principal_of(scope) if renewal is None else await renewal()
    if isinstance(caller, PenstockError):
        raise caller
    return caller


def has_permission(scope: Scope, permission: Permission) -> bool:
    """Returns whether the principal of a request, if it has one, has a permission."""
    caller: Principal | PenstockError = scope["state"][_STATE]
    return isinstance(caller, Principal) and caller.may(permission)


def principal_of(scope: Scope) -> Principal:
    """Returns the principal of a request. Raises as `check_permission`."""
    caller: Principal | PenstockError = scope["state"][_STATE]
    if isinstance(caller, PenstockError):
        raise caller
    return caller
