"""The credentials that clients, LangChain and the command line send, and to which addresses."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from penstock.cli import main as cli
from penstock.client import AsyncPenstockClient, PenstockClient, key_source, tenant_to_send
from penstock.config import Endpoints, api_key_for, load_settings, local_key_file, to_environment, write_endpoints
from penstock.config.secrets import without_secrets
from penstock.errors import ConfigError, QueryError, UsageError
from penstock.integrations.langchain import PenstockRetriever
from tests.client.both import Both
from tests.client.scripted_server import Scripted, ScriptedServer, problem

KEY = "pk_test_" + "k" * 43
NO_HITS = Scripted(body=json.dumps({"hits": [], "took_ms": 1}).encode())


def authorizations(server: ScriptedServer) -> list[str | None]:
    return [received.headers.get("authorization") for received in server.received]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_every_request_has_the_key(server: ScriptedServer, kind: str) -> None:
    server.answers(problem(503, "starting", Retry_After="0"), NO_HITS, Scripted(body=b"pixels"), problem(401, "no"))
    plane = Both(kind, server.url, api_key=KEY)
    plane("search", "a heron")
    plane("thumbnail", "e1")
    with pytest.raises(QueryError):
        plane("live", at_most=1)
    assert authorizations(server) == [f"Bearer {KEY}"] * 4


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_function_gives_the_token_of_each_attempt(server: ScriptedServer, kind: str) -> None:
    server.answers(problem(503, "starting", Retry_After="0"), NO_HITS)
    tokens = iter(["first", "second"])
    Both(kind, server.url, api_key=lambda: next(tokens))("search", "a heron")
    assert authorizations(server) == ["Bearer first", "Bearer second"]


def test_a_coroutine_gives_the_token_to_the_asynchronous_client(server: ScriptedServer) -> None:
    async def token() -> str:
        return "fetched"

    server.answers(NO_HITS)
    Both("async", server.url, api_key=token)("search", "a heron")
    assert authorizations(server) == ["Bearer fetched"]


@pytest.mark.parametrize("client", [PenstockClient, AsyncPenstockClient])
@pytest.mark.parametrize("key", ["", "two\r\nlines", "ключ"])
def test_a_key_that_is_no_header_is_refused_without_showing_it(
    client: type[PenstockClient] | type[AsyncPenstockClient], key: str
) -> None:
    with pytest.raises(UsageError, match="api_key is no API key") as refusal:
        client("http://127.0.0.1:1", api_key=key)
    assert not key or key not in str(refusal.value)


def test_a_redirect_does_not_take_the_key_along(server: ScriptedServer) -> None:
    server.answers(Scripted(302, headers={"Location": f"{server.url}/elsewhere"}))
    with PenstockClient(server.url, api_key=KEY) as client, pytest.raises(Exception, match="302"):
        client.status()
    assert len(server.received) == 1


def test_the_retriever_sends_the_key_and_does_not_show_it(server: ScriptedServer) -> None:
    server.answers(NO_HITS)
    retriever = PenstockRetriever(url=server.url, api_key=KEY)
    retriever.invoke("a heron")
    assert authorizations(server) == [f"Bearer {KEY}"]
    assert KEY not in repr(retriever) + retriever.model_dump_json()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def up_runs(folder: Path, url: str) -> None:
    """Writes what a running `penstock up` leaves in its data folder."""
    folder.mkdir()
    write_endpoints(
        folder,
        Endpoints(pid=os.getpid(), bootstrap_servers="b:1", store_uri="s", ray_address="r", query_url=url),
    )
    local_key_file(folder).write_text(KEY + "\n")


def test_the_key_of_the_settings_goes_to_any_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_API_KEY", KEY)
    assert api_key_for("https://search.example", load_settings(data_dir=folder)) == KEY


def test_the_key_of_a_file_is_read_at_each_call(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    monkeypatch.setenv("PENSTOCK_API_KEY_FILE", str(file))
    settings = load_settings(data_dir=folder)
    with pytest.raises(ConfigError, match="cannot be read"):
        api_key_for("https://search.example", settings)
    file.write_text("first\n")
    source = key_source("https://search.example", settings)
    assert source is not None
    file.write_text("second")
    assert source() == "second"


@pytest.mark.parametrize("content", ["", "two words", "Bearer x", "é", "a\nb"])
def test_a_file_without_a_key_is_refused_without_showing_it(folder: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(ConfigError, match="is no API key") as refusal:
        api_key_for("https://search.example", load_settings(data_dir=folder, api_key_file=file))
    assert not content or content not in str(refusal.value)


def test_the_key_of_up_goes_to_this_up_alone(folder: Path) -> None:
    up_runs(folder, "http://127.0.0.1:8600")
    settings = load_settings(data_dir=folder)
    assert api_key_for("http://127.0.0.1:8600/", settings) == KEY
    for other in ("http://127.0.0.1:8601", "https://127.0.0.1:8600", "http://search.example:8600", "http://[::1", "x"):
        assert api_key_for(other, settings) is None


def test_a_tenant_that_nobody_chose_is_left_to_the_key(folder: Path) -> None:
    url = "http://127.0.0.1:8600"
    assert tenant_to_send(None, url, load_settings(data_dir=folder)) == "default"
    keyed = load_settings(data_dir=folder, api_key=KEY)
    assert tenant_to_send(None, url, keyed) is None
    assert tenant_to_send("acme", url, keyed) == "acme"
    assert tenant_to_send(None, url, load_settings(data_dir=folder, api_key=KEY, tenant="acme")) == "acme"


def test_children_get_the_file_of_the_key_and_decoders_not_even_that(folder: Path) -> None:
    settings = load_settings(data_dir=folder, api_key=KEY)
    environment = to_environment(settings)
    assert KEY not in str(environment)
    assert Path(environment["PENSTOCK_API_KEY_FILE"]).read_text() == KEY
    bare = without_secrets(load_settings(data_dir=folder, api_key_file=folder / "secrets" / "api_key"))
    assert (bare.api_key, bare.api_key_file) == (None, None)
    assert KEY.encode() not in pickle.dumps(without_secrets(settings))


COMMANDS: Mapping[str, tuple[list[str], Scripted]] = {
    "search": (["search", "a heron", "--json"], NO_HITS),
    "watch list": (["watch", "list"], Scripted(body=b'{"watches": []}')),
    "watch delete": (["watch", "delete", "w1"], Scripted(status=204, body=b"")),
    "ask": (["ask", "who?", "--no-stream", "--json"], Scripted(body=b'{"abstained": false}')),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_send_the_key_and_leave_the_tenant_to_it(
    server: ScriptedServer, folder: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, response = COMMANDS[command]
    server.answers(response)
    monkeypatch.setenv("PENSTOCK_API_KEY", KEY)
    monkeypatch.setenv("PENSTOCK_QUERY__URL", server.url)
    assert cli.main(["--data-dir", str(folder), *arguments]) == 0
    assert authorizations(server) == [f"Bearer {KEY}"]
    (received,) = server.received
    assert "tenant" not in received.path
    assert "tenant" not in (received.json or {})


def test_a_refusal_is_one_line_with_the_words_of_the_plane(
    server: ScriptedServer, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers(problem(401, "the request needs credentials"))
    monkeypatch.setenv("PENSTOCK_QUERY__URL", server.url)
    assert cli.main(["--data-dir", str(folder), "search", "a heron"]) == 2
    assert "the request needs credentials" in capsys.readouterr().err
