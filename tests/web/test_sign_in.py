"""Signs in on the page in a browser: by an API key, and at a real provider on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.auth import Permission
from penstock.auth.keys import new_key, write_keys
from penstock.config import Settings
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.use_cases.live import LiveFeed
from penstock.store.memory import MemoryStore
from tests.auth.test_keys import api_key
from tests.auth.token_server import AUDIENCE, CLIENT_ID, TokenServer
from tests.serve.sample_index import PROFILE, fill
from tests.served import served

KEY = new_key("page")
REVOKED = new_key("gone")
PAGE_PERMISSIONS = (Permission.SEARCH, Permission.ASK, Permission.MEDIA)


@pytest.fixture(scope="module")
def provider() -> Iterator[TokenServer]:
    with TokenServer() as running:
        yield running


@pytest.fixture(scope="module")
def url(provider: TokenServer, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A query plane that takes keys and tokens; not made where there is no browser."""
    folder: Path = tmp_path_factory.mktemp("plane")
    keys = (
        api_key(KEY, permissions=PAGE_PERMISSIONS, tenants=("acme", "default")),
        api_key(REVOKED, revoked=datetime(2020, 1, 1, tzinfo=UTC)),
    )
    write_keys(folder / "keys.json", keys)
    oidc = {"issuer": provider.issuer, "audience": AUDIENCE, "client_id": CLIENT_ID}
    settings = Settings(
        profile=PROFILE.name,
        data_dir=folder,
        auth={"mode": "keys+oidc", "oidc": oidc},
        ingest={"min_free_disk_bytes": 0},
        store={"consistency": "Strong"},
    )
    plane = build_query_plane(settings, store=MemoryStore())
    fill(plane)
    plane.changes.set_available(True)
    plane = replace(plane, live=LiveFeed(plane.changes, is_followed=True, max_clients=4))
    with served(create_app(plane)) as address:
        yield address
    plane.close()


@pytest.fixture
def visit(browser: Any, url: str) -> Iterator[Callable[[str], Any]]:
    """Returns `visit(path)`, which opens the page in a tab without credentials."""
    contexts = []

    def opened(path: str = "/") -> Any:
        context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # a browser on a busy machine
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()


def use_key(page: Any, text: str) -> None:
    page.get_by_label("API key").fill(text)
    page.get_by_role("button", name="Use it").click()


def stored(page: Any) -> str:
    """Returns everything that the browser keeps for the page."""
    kept: str = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])")
    return kept


def test_a_key_signs_this_tab_in_until_it_signs_out(visit: Callable[[str], Any]) -> None:
    page = visit("/?q=a+dog+in+the+fog&tenant=acme")
    page.get_by_role("heading", name="Sign in", exact=True).wait_for()
    for wrong in ("no key", REVOKED, KEY + "x"):
        use_key(page, wrong)
        page.get_by_role("alert").filter(has_text="key").wait_for()
    assert "pk_" not in stored(page)
    use_key(page, KEY)
    page.wait_for_selector("#results .card:not(.ghost)")
    assert "a dog in the fog" in page.locator("#results").inner_text()
    session, local, cookies = json.loads(stored(page))
    assert KEY in session.values()
    assert (KEY not in json.dumps(local), cookies) == (True, "")
    page.reload()
    page.wait_for_selector("#results .card:not(.ghost)")
    other = page.context.new_page()
    other.goto("/?q=a+dog&tenant=acme")
    other.get_by_role("heading", name="Sign in", exact=True).wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in", exact=True).wait_for()
    assert "pk_" not in stored(page)
    assert "fog" not in stored(page)


@pytest.mark.exhaustive
def test_the_stream_of_events_is_read_with_the_key(visit: Callable[[str], Any]) -> None:
    page = visit("/?q=a+dog&tenant=acme")
    page.get_by_text("Sign in to see the stream.").wait_for()
    with page.expect_response(lambda response: "/v1/live" in response.url) as live:
        use_key(page, KEY)
    assert live.value.status == 200
    page.get_by_text("Sign in to see the stream.").wait_for(state="detached")


def test_the_provider_signs_in_and_the_search_goes_on(visit: Callable[[str], Any], provider: TokenServer) -> None:
    page = visit("/?q=a+dog+in+the+fog&tenant=acme")
    page.get_by_role("button", name="Sign in at 127.0.0.1").click()
    page.wait_for_selector("#results .card:not(.ghost)")
    assert page.url.endswith("/?q=a+dog+in+the+fog&tenant=acme")
    assert "/authorize" in provider.requests
    assert "verifier" not in stored(page)


@pytest.mark.exhaustive
def test_images_are_seen_by_their_signed_links_and_after_these_expired(visit: Callable[[str], Any]) -> None:
    page = visit("/?q=dawn&tenant=default")
    page.clock.install()
    use_key(page, KEY)
    page.wait_for_selector("#results .card:not(.ghost)")
    shown = "() => [...document.querySelectorAll('#results .card img')].some((image) => image.naturalWidth > 0)"
    page.wait_for_function(shown)
    sources = "() => [...document.querySelectorAll('#results .card img')].map((image) => image.src)"
    assert any("sig=" in source for source in page.evaluate(sources))
    page.clock.fast_forward("24:00:00")
    page.locator("#results .card[data-kind=image] .open").first.click()
    page.wait_for_function("() => document.querySelector('#viewer img.whole')?.src.startsWith('blob:')")
    page.wait_for_function("() => document.querySelector('#viewer img.whole').naturalWidth > 0")


@pytest.mark.exhaustive
def test_a_code_that_this_tab_did_not_request_is_not_exchanged(
    visit: Callable[[str], Any], provider: TokenServer
) -> None:
    provider.requests.clear()
    page = visit("/?code=planted&state=planted")
    page.get_by_role("alert").filter(has_text="not begun in this tab").wait_for()
    assert "/token" not in provider.requests
    assert "planted" not in page.url
