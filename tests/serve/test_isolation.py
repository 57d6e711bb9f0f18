"""Checks that no request reads what its credentials do not permit, or learns that it exists.

Each request goes to two query planes. One has entries, media, watches and answers that the caller may not read, and the
other does not. Every answer has to be the same: its status, its headers, and its body with scores, counts and order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from penstock.query.understand import understanding
from penstock.records import Access
from penstock.serve.app import create_app
from penstock.serve.authentication import permissions
from penstock.serve.media_links import words_name
from penstock.store import memory
from tests.serve.worlds import (
    ANSWER_ID,
    HIDDEN_TEXTS,
    OTHER,
    OWN,
    SECRET,
    World,
    ids_of_copies,
    known_hashes,
    known_ids,
    linked_names,
    observed,
    words_in_common,
    world,
)


@dataclass(frozen=True)
class Call:
    """A request: its route, the path with values, and the options of httpx.

    Attributes:
        link: what the request has a valid link for; None: it has none.
    """

    route: str
    method: str
    path: str
    options: Mapping[str, Any]
    link: str | None = None

    def send_to(self, place: World) -> httpx.Response:
        """Returns the answer of a world, whose own key signs the link."""
        options = {**self.options}
        if self.link is not None:
            options["params"] = {**options.get("params", {}), **place.signed(self.link)}
        return place.send(self.method, self.path, **options)


WORDS = (SECRET, "heron", "fish market", f"salaries {SECRET}", "fog", "zebr")
TENANTS = (None, OWN, OTHER, "nobody-there", "default", "")


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, World]]:
    folder = tmp_path_factory.mktemp("worlds")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(memory, "_bm25", words_in_common)
    # On a busy machine a correction that comes late in one world alone would tell them apart.
    monkeypatch.setattr(understanding, "SPELLING_TIMEOUT_S", 60.0)
    with world(folder / "with", has_hidden=True) as full, world(folder / "without", has_hidden=False) as bare:
        known_hashes(bare.plane)  # the media are in both stores, of which one has entries that refer to them
        yield full, bare
    monkeypatch.undo()


def calls(hashes: list[str]) -> st.SearchStrategy[Call]:
    """Returns requests to all routes that read anything, with names of both tenants and of none."""
    ids, words = st.sampled_from(known_ids()), st.sampled_from(WORDS)
    tenant, sha256 = st.sampled_from(TENANTS), st.sampled_from(hashes)
    filters = st.one_of(
        st.none(),
        st.builds(
            lambda word: {"key": word},
            st.sampled_from(["picture hr", "film hr", "picture tenant", f"{HIDDEN_TEXTS[0]} tenant"]),
        ),
        st.builds(lambda name: {"uri": f"asset:{name}"}, sha256),
        st.builds(lambda name: {"tenant": name}, st.sampled_from([OWN, OTHER])),
    )
    search = st.fixed_dictionaries(
        {"text": words, "tenant": tenant, "filter": filters, "explain": st.booleans(), "limit": st.just(10)},
        optional={"like": st.lists(ids, min_size=1, max_size=2), "group_by": st.sampled_from(["asset", "entry"])},
    )
    query = st.fixed_dictionaries({}, optional={"tenant": st.sampled_from([*TENANTS[1:]])})
    linked = st.fixed_dictionaries({}, optional={"tenant": st.sampled_from(TENANTS[1:]), "sig": st.just("x" * 43)})

    def posted(route: str, body: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Call]:
        return st.builds(lambda values: Call(route, "POST", route, {"json": _without_none(values)}), body)

    def got(
        route: str, path: st.SearchStrategy[str], params: st.SearchStrategy[dict[str, Any]], method: str = "GET"
    ) -> st.SearchStrategy[Call]:
        return st.builds(lambda address, values: Call(route, method, address, {"params": values}), path, params)

    answer = st.sampled_from([ANSWER_ID, "c" * 32, "d" * 32, "0" * 32]).map(lambda name: f"/v1/ask/{name}")
    return st.one_of(
        posted("/v1/search", search),
        posted("/v1/ask", st.fixed_dictionaries({"question": words, "tenant": tenant, "filter": filters})),
        posted(
            "/v1/chat/completions",
            st.builds(_chat, words, tenant),
        ),
        posted(
            "/v1/check",
            st.fixed_dictionaries(
                {
                    "answer": words.map(lambda word: f"It is {word} [1]."),
                    "sources": st.lists(ids, min_size=1, max_size=2),
                },
                optional={"tenant": tenant},
            ),
        ),
        posted(
            "/v1/feedback",
            st.fixed_dictionaries(
                {"question": words, "entry": ids, "tenant": tenant}, optional={"shown": st.lists(ids)}
            ),
        ),
        posted("/v1/events", st.fixed_dictionaries({"text": words, "tenant": tenant})),
        got("/v1/events", st.just("/v1/events"), st.just({})),
        posted("/v1/watches", st.builds(_watch, words, tenant)),
        got("/v1/watches", st.just("/v1/watches"), query),
        got("/v1/watches/{watch_id}", ids.map(lambda name: f"/v1/watches/{name}"), query, "DELETE"),
        got("/v1/suggest", st.just("/v1/suggest"), st.builds(lambda q, own: {"q": q, **own}, words, query)),
        got("/v1/entries/{entry_id}/thumbnail", ids.map(lambda name: f"/v1/entries/{name}/thumbnail"), linked),
        got("/v1/media/{sha256}", sha256.map(lambda name: f"/v1/media/{name}"), linked),
        got("/v1/media/{sha256}/entries", sha256.map(lambda name: f"/v1/media/{name}/entries"), linked),
        got("/v1/media/{sha256}/captions.vtt", sha256.map(lambda name: f"/v1/media/{name}/captions.vtt"), linked),
        linked_calls(ids, sha256),
        got("/v1/ask/{answer_id}", answer, query),
        got("/v1/ask/{answer_id}", answer, query, "DELETE"),
        got("/v1/live", st.just("/v1/live"), query),
        got("/v1/status", st.just("/v1/status"), st.just({})),
        got("/v1/models", st.just("/v1/models"), st.just({})),
        got("/readyz", st.just("/readyz"), st.just({})),
        st.builds(_tool, st.sampled_from(["search", "ask", "show", "moment"]), words, ids, tenant),
    )


def linked_calls(ids: st.SearchStrategy[str], hashes: st.SearchStrategy[str]) -> st.SearchStrategy[Call]:
    """Returns requests with a valid link, whatever that is for, with and without credentials."""
    paths = {
        "/v1/entries/{entry_id}/thumbnail": ids.map(lambda name: f"/v1/entries/{name}/thumbnail"),
        "/v1/media/{sha256}": hashes.map(lambda name: f"/v1/media/{name}"),
        "/v1/media/{sha256}/entries": hashes.map(lambda name: f"/v1/media/{name}/entries"),
        "/v1/media/{sha256}/captions.vtt": hashes.map(lambda name: f"/v1/media/{name}/captions.vtt"),
    }

    def linked(route: str) -> st.SearchStrategy[Call]:
        entry = st.one_of(st.just({}), ids.map(lambda name: {"entry": name}))
        headers = st.sampled_from(({}, {"Authorization": "none"}))
        return st.builds(
            lambda path, link, params, given: Call(route, "GET", path, {"params": params, "headers": given}, link),
            paths[route],
            st.sampled_from(linked_names()),
            entry,
            headers,
        )

    return st.sampled_from(sorted(paths)).flatmap(linked)


def _chat(question: str, tenant: str | None) -> dict[str, Any]:
    own = {} if tenant is None else {"penstock": {"tenant": tenant}}
    return {"model": "penstock", "messages": [{"role": "user", "content": question}], **own}


def _watch(text: str, tenant: str | None) -> dict[str, Any]:
    return {"name": text, "text": text, "min_relevance": 0.5, "tenant": tenant}


def _tool(name: str, words: str, entry_id: str, tenant: str | None) -> Call:
    arguments = {
        "search": {"query": words},
        "ask": {"question": words},
        "show": {"entry_id": entry_id},
        "moment": {"entry_id": entry_id, "start_s": 0, "end_s": 5},
    }[name]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    options = {
        "json": body,
        "params": {} if tenant is None else {"tenant": tenant},
        "headers": {"Accept": "application/json, text/event-stream"},
    }
    return Call("/mcp", "POST", "/mcp", options)


def _without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def compare(worlds: tuple[World, World], *, examples: int) -> set[str]:
    """Sends requests to both worlds, and returns the routes that were reached."""
    full, _ = worlds
    reached: set[str] = set()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(call=calls(known_hashes(full.plane)))
    def both(call: Call) -> None:
        with_hidden, without = (call.send_to(place) for place in worlds)
        assert observed(with_hidden) == observed(without)
        assert "zebrafish salaries" not in with_hidden.text
        assert f"{SECRET} {SECRET}" not in with_hidden.text
        assert OTHER not in with_hidden.text.replace(f"tenant={OTHER}", "") or OTHER in str(call.options)
        reached.add(call.route)

    both()
    return reached


def test_no_request_reads_or_notices_what_its_key_does_not_permit(worlds: tuple[World, World]) -> None:
    reached = compare(worlds, examples=150)
    assert len(reached) >= 15


@pytest.mark.exhaustive
def test_no_request_of_many_reads_or_notices_what_its_key_does_not_permit(worlds: tuple[World, World]) -> None:
    reached = compare(worlds, examples=5_000)
    closed = {path for path, permission in permissions(create_app(worlds[0].plane).routes) if permission is not None}
    of_no_tenant = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/static-offline-docs", "/v1/models/{model}"}
    assert closed - reached <= of_no_tenant


def test_the_hidden_part_is_there_for_one_who_may_read_it(worlds: tuple[World, World]) -> None:
    full, bare = worlds
    assert len(full.plane.store.entries(known_ids(), access=Access.to_all_of(OTHER), timeout_s=5)) == 6
    assert len(full.plane.store.entries(known_ids(), access=Access.to_all_of(OWN), timeout_s=5)) == 10
    assert len(bare.plane.store.entries(known_ids(), access=Access.to_all_of(OTHER), timeout_s=5)) == 0
    assert len(bare.plane.store.entries(known_ids(), access=Access.to_all_of(OWN), timeout_s=5)) == 5


def test_no_valid_link_reads_or_notices_assets_with_the_same_media(worlds: tuple[World, World]) -> None:
    full, bare = worlds
    sha256 = known_hashes(full.plane)[0]
    linked_ids = {name.rpartition("/")[2] for name in linked_names() if name.startswith("words/")}
    for link, kind, entry_id in itertools.product(
        linked_names(), ("entries", "captions.vtt"), (None, *linked_ids, *ids_of_copies())
    ):
        for headers in ({}, {"Authorization": "none"}):
            params = {} if entry_id is None else {"entry": entry_id}
            call = Call("", "GET", f"/v1/media/{sha256}/{kind}", {"params": params, "headers": headers}, link)
            answer = call.send_to(full)
            assert observed(answer) == observed(call.send_to(bare)), (link, entry_id)
            assert SECRET not in answer.text
            is_own = entry_id is not None and link == words_name(sha256, entry_id)
            assert answer.status_code == (200 if is_own or not headers else 401)


@pytest.mark.parametrize("answer_id", [ANSWER_ID, "c" * 32, "d" * 32])
def test_an_answer_of_another_tenant_caller_or_label_is_continued_as_little_as_none(
    worlds: tuple[World, World], answer_id: str
) -> None:
    for method in ("GET", "DELETE"):
        with_hidden, without = (place.send(method, f"/v1/ask/{answer_id}") for place in worlds)
        assert with_hidden.status_code == 404
        assert observed(with_hidden) == observed(without)


@pytest.mark.parametrize("path", ["/v1/suggest?q=a&tenant=", "/v1/watches?tenant=", "/v1/live?tenant="])
def test_a_tenant_that_exists_and_one_that_does_not_are_refused_in_the_same_bytes(
    worlds: tuple[World, World], path: str
) -> None:
    exists, absent = (worlds[0].send("GET", path + tenant) for tenant in (OTHER, "nobody-there"))
    assert exists.status_code == absent.status_code == 403
    assert exists.content == absent.content
