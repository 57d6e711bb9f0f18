"""`penstock mcp`: the tools of a model over standard input and output."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import read_settings
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from penstock.client import AsyncPenstockClient


def mcp(
    context: typer.Context,
    *,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the query plane. Default: the one that runs here.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose index is searched. Default: the configured tenant.")
    ] = None,
) -> None:
    """Serve the tools search, ask, show and moment to a model, by the Model Context Protocol over stdin and stdout.

    A running query plane serves the same tools at /mcp over HTTP.
    """
    from penstock.client import AsyncPenstockClient, key_source, query_url, tenant_to_send

    try:
        import mcp.server.stdio  # noqa: F401
    except ImportError as exc:
        raise ConfigError(f"{exc}: install penstock with the extra mcp (pip install 'penstock[mcp]')") from exc
    settings = read_settings(context)
    address = url or query_url(settings)
    api_key, named = key_source(address, settings), tenant_to_send(tenant, address, settings)
    asyncio.run(_serve(AsyncPenstockClient(address, tenant=named, api_key=api_key, ca_file=settings.query.ca_file)))


async def _serve(client: AsyncPenstockClient) -> None:
    """Serves until standard input ends."""
    from mcp.server.stdio import stdio_server

    from penstock.integrations.mcp_server import mcp_server

    server = mcp_server(client)
    async with client, stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
