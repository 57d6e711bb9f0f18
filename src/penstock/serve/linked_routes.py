"""Lets requests for media in that have a signed link, or a caller that may read media.

a `LinkedRoute` ─► the signature of its request, else the permission of its caller
`media_access` ─► what the request may read: what a valid link names, else what its caller may read

A link to media is for their bytes alone. What is known of them belongs to assets, which have labels: it takes a link to
the words of one asset, which a `WordsRoute` checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request, Response

from penstock.auth import AccessOf, Permission, Principal, SignedLink
from penstock.observability import audit_log
from penstock.records import Access
from penstock.serve.authentication import PermittedRoute, RouteHandler, check_permission, principal_of
from penstock.serve.dependencies import query_plane, tenant_access
from penstock.serve.limits.admission import admit
from penstock.serve.media_links import entry_name, media_name, words_name

_STATE = "linked_tenant"


class LinkedRoute(PermittedRoute):
    """A route of media or an entry: for signed links and for principals that may read media."""

    permission = Permission.MEDIA

    def linked_name(self, request: Request) -> str:
        """Returns the name of what a request is for in the signature of a link."""
        parameters: Mapping[str, str] = request.path_params
        return entry_name(parameters["entry_id"]) if "entry_id" in parameters else media_name(parameters["sha256"])

    def get_route_handler(self) -> RouteHandler:
        """Returns the handler of the route behind the check of the link or the permission."""
        handler = super(PermittedRoute, self).get_route_handler()

        async def checked(request: Request) -> Response:
            tenant = _linked_tenant(request, self.linked_name(request))
            request.scope["state"][_STATE] = tenant
            if tenant is None:
                check_permission(request.scope, Permission.MEDIA)
            return await handler(request)

        return checked


class WordsRoute(LinkedRoute):
    """A route of what is indexed of media, for links to the words of one asset and permitted principals."""

    def linked_name(self, request: Request) -> str:
        """Returns the name of the words of the asset whose entry the query names."""
        return words_name(request.path_params["sha256"], request.query_params.get("entry", ""))


def _linked_tenant(request: Request, name: str) -> str | None:
    """Returns the tenant that the signature of a request is valid for; None: it has none that is."""
    links, query = query_plane(request).media_links, request.query_params
    tenant, signature = query.get("tenant"), query.get("sig")
    if links is None or tenant is None or signature is None:
        return None
    caller = request.scope["state"].get("principal")
    subject = caller.subject if isinstance(caller, Principal) else None
    proof = SignedLink(query.get("exp", ""), signature)
    return tenant if links.verifies(proof, name, tenant=tenant, subject=subject) else None


@dataclass(frozen=True, slots=True)
class MediaAccess:
    """The part of the index that a request for media may read.

    Attributes:
        access: to the entries of the media.
        needs_entry: whether the media may be read only if one of these entries refers to them.
        is_linked: whether a link stands for credentials: the request may read what it names, and nothing else.
    """

    access: Access
    needs_entry: bool
    is_linked: bool


async def media_access(
    request: Request,
    tenant: Annotated[str | None, Query(description="the owner; if absent, the only one of the credentials")] = None,
    exp: Annotated[str | None, Query(description="of a signed link: when it expires, seconds since the epoch")] = None,
    sig: Annotated[str | None, Query(description="of a signed link: its signature")] = None,
) -> MediaAccess:
    """Returns what a request may read, by its link or else by its caller.

    A link is valid for the bytes of its media, or for its one asset, whatever their labels are.
    """
    del exp, sig  # read where the link is checked, before the body; here they are documented
    linked = request.scope["state"][_STATE]
    if linked is not None:
        audit_log.note(tenant=linked)
        await admit(linked)
        return MediaAccess(Access.to_all_of(linked), needs_entry=False, is_linked=True)
    choose: AccessOf = await tenant_access(request)
    caller = principal_of(request.scope)
    chosen = choose(tenant or None)
    await admit(chosen.tenant)
    needs_entry = caller.tenants is not None or caller.labels is not None
    return MediaAccess(chosen, needs_entry=needs_entry, is_linked=False)


MediaAccessDependency = Annotated[MediaAccess, Depends(media_access)]
