"""The files of the page: how they are cached and compressed, and what the page may run."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from penstock.serve.plane import QueryPlane
from penstock.serve.routes.web import CONTENT_SECURITY_POLICY
from penstock.serve.web_files import FOLDER, web_files
from tests.serve.conftest import caller

MAX_BYTES = 150_000
_EVENT_HANDLER = re.compile(r"\son\w+\s*=")
_PARSES_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\(|new Function|DOMParser"
)


def files(suffix: str) -> list[Path]:
    return sorted(FOLDER.glob(f"*{suffix}"))


def test_the_page_is_revalidated_and_its_files_are_kept_for_ever(call: Callable[..., httpx.Response]) -> None:
    page = call("GET", "/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    loaded = re.findall(r'(?:src|href)="(web/[^"#]+)"', page.text)
    assert len(loaded) >= 4
    for path in loaded:
        file = call("GET", f"/{path}")
        assert (file.status_code, file.headers["cache-control"]) == (200, "public, max-age=31536000, immutable"), path
    again = call("GET", "/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_files_of_another_version_are_not_kept(call: Callable[..., httpx.Response]) -> None:
    file = call("GET", "/web/0123456789abcdef/main.js")
    assert (file.status_code, file.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("name", ["absent.js", "index.html", "..%2f..%2fapp.py", "web_files.py"])
def test_other_files_are_not_found(call: Callable[..., httpx.Response], name: str) -> None:
    assert call("GET", f"/web/{web_files().version}/{name}").status_code == 404


def test_files_are_compressed_for_clients_that_take_it(call: Callable[..., httpx.Response]) -> None:
    plain = call("GET", "/", headers={"Accept-Encoding": "identity"})
    refused = call("GET", "/", headers={"Accept-Encoding": "gzip;q=0, identity"})
    packed = call("GET", "/", headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refused.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content  # httpx unpacks it
    assert packed.headers["vary"] == "Accept-Encoding"


def test_head_has_the_headers_of_get(call: Callable[..., httpx.Response]) -> None:
    assert call("HEAD", "/").headers["etag"] == call("GET", "/").headers["etag"]


def test_all_files_together_are_small() -> None:
    assert sum(len(file.compressed) for file in web_files().files.values()) <= MAX_BYTES
    for name, file in web_files().files.items():
        assert gzip.decompress(file.compressed) == file.content, name


def test_the_page_may_run_nothing_but_its_own_files(call: Callable[..., httpx.Response]) -> None:
    policy = call("GET", "/").headers["content-security-policy"]
    assert policy == CONTENT_SECURITY_POLICY
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)
    assert "default-src 'none'" in policy


def test_no_script_and_no_style_is_in_the_markup() -> None:
    page = (FOLDER / "index.html").read_text("utf-8")
    assert "<style" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not _EVENT_HANDLER.search(page)
    assert not re.search(r"\sstyle=", page)


@pytest.mark.parametrize(
    "path", [*files(".js"), *files(".css"), *files(".html"), *files(".svg")], ids=lambda path: path.name
)
def test_a_file_names_no_other_host_and_parses_no_markup(path: Path) -> None:
    source = path.read_text("utf-8")
    hosts = set(re.findall(r"(?:https?:)?//([\w-]+(?:\.[\w-]+)+)", source)) - {"www.w3.org"}  # the namespace of SVG
    assert hosts == set()
    assert not _PARSES_MARKUP.search(source)


def test_modules_import_files_that_exist() -> None:
    names = {path.name for path in files(".js")}
    for path in files(".js"):
        imported = set(re.findall(r'from "\./([\w.-]+)"', path.read_text("utf-8")))
        assert imported <= names, path.name
    page = (FOLDER / "index.html").read_text("utf-8")
    loaded = {name for path in files(".js") for name in re.findall(r'from "\./([\w.-]+)"', path.read_text("utf-8"))}
    assert names == loaded | set(re.findall(r"/([\w-]+\.js)", page))


def test_the_page_can_be_switched_off(plane: QueryPlane) -> None:
    query = plane.settings.query.model_copy(update={"page": False})
    without = replace(plane, settings=plane.settings.model_copy(update={"query": query}))
    call = caller(without)
    assert call("GET", "/").status_code == 404
    assert call("GET", f"/web/{web_files().version}/main.js").status_code == 404
    assert call("GET", "/healthz").status_code == 200
