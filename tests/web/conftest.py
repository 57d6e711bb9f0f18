"""The page in Debian's Chromium, over an index in memory of real samples that the reference models encoded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.media.av.audio import RATE_HZ
from penstock.samples.timed_media import SPOKEN_QUESTION
from tests.web.hostile import HOSTILE_TENANT, hostile_rows
from tests.web.media import write_wav
from tools.screenshots.browser import CHROMIUM, open_browser
from tools.screenshots.sample_page import SamplePage, serve_samples

TEXTS = ("onion-tears", "penguin-huddle", "ladder-angle", "bicycle-chain", "umbrella-old", "owl-flight", "soap-how")
IMAGES = ("violin", "bicycle", "umbrella", "balloon", "octopus", "hammer", "banana", "turtle")
MEDIA = ("workshop", "note-anchor")
DOCUMENTS = ("bicycle-handbook",)

# Adds up what moves without the user having done anything (web.dev/cls), and every attempt to run what must not run.
_WATCH = """
window.__shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.__shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@pytest.fixture(scope="module")
def samples(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SamplePage]:
    """The page, which is not made where there is no browser."""
    folder = tmp_path_factory.mktemp("page")
    hostile = folder / "hostile.jsonl"
    hostile.write_text("\n".join(json.dumps(row) for row in hostile_rows()), "utf-8")
    with serve_samples(
        folder / "samples",
        texts=TEXTS,
        images=IMAGES,
        media=MEDIA,
        documents=DOCUMENTS,
        others={HOSTILE_TENANT: hostile},
    ) as page:
        yield page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser whose microphone plays the sample question."""
    pytest.importorskip("playwright", reason="the package playwright is not installed: pip install playwright")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"{CHROMIUM} is not on the PATH: apt-get install chromium")
    path = write_wav(SPOKEN_QUESTION, tmp_path_factory.mktemp("voice") / "question.wav", rate_hz=RATE_HZ)
    fakes = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with open_browser((*fakes, f"--use-file-for-fake-audio-capture={path}%noloop")) as chromium:
        yield chromium


@pytest.fixture
def new_page(browser: Any, samples: SamplePage) -> Iterator[Callable[..., Any]]:
    """Returns `new_page(path, **options)`, which opens the page; it fails a test on errors of scripts."""
    contexts = []
    errors: list[str] = []

    def open_page(path: str = "/", **options: Any) -> Any:
        context = browser.new_context(
            base_url=samples.url, viewport=options.pop("viewport", {"width": 1280, "height": 900}), **options
        )
        contexts.append(context)
        context.add_init_script(_WATCH)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    return new_page()
