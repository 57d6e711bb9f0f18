"""Adds files on the page in a browser: who may, what is accepted, and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from penstock.auth import Permission
from penstock.auth.keys import new_key, write_keys
from penstock.broker.base import Partition
from penstock.broker.memory.broker import MemoryBroker
from penstock.config import Settings
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.use_cases.events import EventService
from penstock.store.memory import MemoryStore
from tests.auth.test_keys import api_key
from tests.serve.sample_index import PROFILE, fill, png
from tests.served import served

WRITER, READER = new_key("writer"), new_key("reader")
PAGE_PERMISSIONS = (Permission.SEARCH, Permission.ASK, Permission.MEDIA)
_DROP = """([target, name, text]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([text], name, {type: "text/plain"}));
  const event = new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: transfer});
  document.querySelector(target).dispatchEvent(event);
}"""


@dataclass(frozen=True)
class Site:
    """A page that is served, and the broker that its files go to."""

    url: str
    broker: MemoryBroker


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("plane")
    keys = (
        api_key(WRITER, permissions=(*PAGE_PERMISSIONS, Permission.EVENTS)),
        api_key(READER, permissions=PAGE_PERMISSIONS),
    )
    write_keys(folder / "keys.json", keys)
    settings = Settings(
        profile=PROFILE.name,
        data_dir=folder,
        auth={"mode": "keys"},  # type: ignore[arg-type]
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
        store={"consistency": "Strong"},  # type: ignore[arg-type]
    )
    broker = MemoryBroker()
    for topic in ("media.text", "media.image"):
        broker.create_topic(topic)
    plane = build_query_plane(settings, store=MemoryStore())
    fill(plane)
    with served(create_app(replace(plane, events=EventService(settings, broker.producer)))) as url:
        yield Site(url, broker)
    plane.close()


def open_page(browser: Any, site: Site, key: str) -> Any:
    context = browser.new_context(base_url=site.url, viewport={"width": 1280, "height": 900})
    context.add_init_script(f"sessionStorage.setItem('penstock.credential', '{key}')")
    page = context.new_page()
    page.set_default_timeout(15_000)
    with page.expect_response("**/v1/events") as answer:
        page.goto("/")
    assert answer.value.status == (200 if key == WRITER else 403)
    return page


def keys_of(broker: MemoryBroker, topic: str) -> list[str]:
    return [(record.key or b"").decode() for record in broker.read(Partition(topic, 0), 0, 100)]


def test_chosen_and_dropped_files_are_produced(browser: Any, site: Site) -> None:
    page = open_page(browser, site, WRITER)
    page.click("#add-toggle")
    chosen = [
        {"name": "heron.png", "mimeType": "image/png", "buffer": png(90)},
        {"name": "archive.zip", "mimeType": "application/zip", "buffer": b"PK\x03\x04" + bytes(60)},
    ]
    page.set_input_files("#add-files", chosen)
    page.wait_for_selector("#add li[data-state=failed]")
    accepted = page.locator("#add li[data-state=accepted]").all_inner_texts()
    assert len(accepted) == 1
    assert "heron.png" in accepted[0]
    assert "no decoder" in page.locator("#add li[data-state=failed]").inner_text()
    page.evaluate(_DROP, ["#add", "<b>note</b>.txt", "The heron."])
    page.wait_for_selector("#add li[data-state=accepted] >> text=note")
    assert page.locator("#add li b").count() == 0
    assert keys_of(site.broker, "media.image") == ["uploads/heron.png"]
    assert keys_of(site.broker, "media.text") == ["uploads/<b>note</b>.txt"]
    page.context.close()


def test_a_file_that_cannot_be_searched_by_can_be_added(browser: Any, site: Site) -> None:
    page = open_page(browser, site, WRITER)
    before = len(keys_of(site.broker, "media.text"))
    page.evaluate(_DROP, ["body", "dropped.txt", "Some words."])
    page.click("#notices >> text=Add to the index")
    page.wait_for_selector("#add li[data-state=accepted]")
    assert keys_of(site.broker, "media.text")[before:] == ["uploads/dropped.txt"]
    page.context.close()


def test_only_those_who_may_are_shown_the_button(browser: Any, site: Site) -> None:
    page = open_page(browser, site, READER)
    assert not page.is_visible("#add-toggle")
    page.evaluate(_DROP, ["body", "dropped.txt", "Some words."])
    page.wait_for_selector("#notices .notice")
    assert page.locator("#notices >> text=Add to the index").count() == 0
    page.context.close()
