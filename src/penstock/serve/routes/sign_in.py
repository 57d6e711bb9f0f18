"""`/v1/sign-in`: how the page gets credentials, open to all callers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from penstock.auth import CodeFlow, Principal
from penstock.errors import QueryError, UnavailableError
from penstock.serve import problems
from penstock.serve.authentication import permitted
from penstock.serve.dependencies import query_plane

router = APIRouter(prefix="/v1/sign-in", tags=["sign-in"], route_class=permitted(None))

_NOT_STORED = {"Cache-Control": "no-store"}
Word = Annotated[StrictStr, Field(min_length=1, max_length=4096)]


class ProviderOut(BaseModel):
    """The OpenID Connect provider at which users sign in."""

    authorization_endpoint: str | None = Field(description="null while the provider does not answer")
    client_id: str
    scopes: str


class SignInOut(BaseModel):
    """The credentials that this query plane takes."""

    needed: bool = Field(description="whether requests need credentials")
    signed_in: bool = Field(description="whether this request has valid ones, such as those that a proxy adds")
    keys: bool = Field(description="whether API keys are credentials")
    provider: ProviderOut | None = Field(description="null where users cannot sign in at a provider")


class CodeBody(BaseModel):
    """The code that a user came back with from a provider, and the verifier of the challenge."""

    model_config = ConfigDict(extra="forbid")

    code: Word
    code_verifier: Word
    redirect_uri: Word


class TokenOut(BaseModel):
    """A bearer token for the header `Authorization`."""

    token: str


@router.get("")
async def sign_in(request: Request, response: Response) -> SignInOut:
    """Returns which credentials requests need, and where a user gets them."""
    plane = query_plane(request)
    response.headers.update(_NOT_STORED)
    auth = plane.settings.auth
    return SignInOut(
        needed=auth.mode != "none",
        signed_in=isinstance(request.scope["state"].get("principal"), Principal),
        keys=auth.takes_keys,
        provider=None if plane.sign_in is None else await _provider(plane.sign_in),
    )


@router.post("/token", responses=problems.RESPONSES | {404: problems.NOT_FOUND})
async def token(request: Request, response: Response, body: CodeBody) -> TokenOut:
    """Exchanges the code of a provider for a token."""
    flow = query_plane(request).sign_in
    if flow is None:
        raise QueryError("users do not sign in at a provider here: auth.oidc.client_id is not set", status=404)
    response.headers.update(_NOT_STORED)
    return TokenOut(
        token=await asyncio.get_running_loop().run_in_executor(
            flow.threads,
            partial(flow.exchange, body.code, verifier=body.code_verifier, redirect_uri=body.redirect_uri),
        )
    )


async def _provider(flow: CodeFlow) -> ProviderOut:
    try:
        endpoint = await asyncio.get_running_loop().run_in_executor(flow.threads, flow.authorization_endpoint)
    except UnavailableError:
        endpoint = None
    return ProviderOut(authorization_endpoint=endpoint, client_id=flow.client_id, scopes=flow.scopes)
