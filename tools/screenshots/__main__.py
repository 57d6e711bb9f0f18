"""Writes docs/images: the page as it looks over the sample media."""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, Page

from penstock.cli.render import say
from penstock.records import Collection
from tools.screenshots.browser import open_browser
from tools.screenshots.sample_page import SamplePage, announce, serve_samples

FOLDER: Final = Path(__file__).parents[2] / "docs" / "images"
MAX_BYTES: Final = 300_000

_IMAGES: Final = (
    "violin",
    "hammer",
    "bicycle",
    "umbrella",
    "balloon",
    "octopus",
    "penguin",
    "turtle",
    "telescope",
    "anchor",
    "candle",
    "guitar",
    "teapot",
    "owl",
    "banana",
    "sailboat",
)
_MEDIA: Final = ("animals", "workshop", "market", "note-telescope", "note-anchor", "note-bread", "note-candle")
_DOCUMENTS: Final = ("bicycle-handbook", "garden-minutes", "seed-list")
_WIDE: Final = (1280, 930)
_NARROW: Final = (320, 700)
_RESULTS: Final = "#results:not([aria-busy=true]) .card:not(.ghost)"


def main() -> int:
    """Draws the images; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where to; default: {FOLDER}")
    parser.add_argument("--only", choices=SHOTS, help="draw one of them")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        serve_samples(Path(name), texts=None, images=_IMAGES, media=_MEDIA, documents=_DOCUMENTS) as sample,
        open_browser() as browser,
    ):
        _announce_all(sample)
        for image, draw in SHOTS.items():
            if options.only in (None, image):
                path = _written(draw(browser, sample), options.folder / f"{image}.webp")
                say(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


def _start(browser: Browser, sample: SamplePage) -> bytes:
    page = _opened(browser, sample, "/")
    page.wait_for_selector("#start .swatch img")
    return _shot(page)


def _results(browser: Browser, sample: SamplePage) -> bytes:
    page = _opened(browser, sample, "/?q=who+repairs+the+violin")
    page.wait_for_selector(_RESULTS)
    return _shot(page)


def _video(browser: Browser, sample: SamplePage) -> bytes:
    return _shot(_playing(browser, sample, dark=False))


def _dark(browser: Browser, sample: SamplePage) -> bytes:
    return _shot(_playing(browser, sample, dark=True))


def _box(browser: Browser, sample: SamplePage) -> bytes:
    page = _playing(browser, sample, dark=False)
    page.get_by_role("button", name="Search by a part of this frame").click()
    return _shot(page)


def _answer(browser: Browser, sample: SamplePage) -> bytes:
    page = _opened(browser, sample, "/?q=What+makes+onions+sting%3F&ask=1")
    page.wait_for_selector("#answer[data-state=done] .cite")
    page.locator(".cite").first.click()
    page.wait_for_selector("#viewer mark")
    return _shot(page)


def _document(browser: Browser, sample: SamplePage) -> bytes:
    page = _opened(browser, sample, "/?q=salt+on+a+bicycle+chain+in+winter&kinds=document")
    page.wait_for_selector(_RESULTS)
    page.locator("#results .card[data-kind=document] .open").first.click()
    page.wait_for_selector("#viewer mark")
    return _shot(page)


def _narrow(browser: Browser, sample: SamplePage) -> bytes:
    page = _opened(browser, sample, "/?q=who+repairs+the+violin", size=_NARROW)
    page.wait_for_selector(_RESULTS)
    return _shot(page)


def _offline(browser: Browser, sample: SamplePage) -> bytes:
    page = _opened(browser, sample, "/")
    page.wait_for_load_state("load")
    page.context.set_offline(True)
    page.fill("#words", "who repairs the violin")
    page.press("#words", "Enter")
    page.wait_for_selector("#notices .notice")
    return _shot(page)


SHOTS: Final[Mapping[str, Callable[[Browser, SamplePage], bytes]]] = {
    "page-start": _start,
    "page-results": _results,
    "page-video": _video,
    "page-box": _box,
    "page-answer": _answer,
    "page-document": _document,
    "page-dark": _dark,
    "page-narrow": _narrow,
    "page-offline": _offline,
}


def _playing(browser: Browser, sample: SamplePage, *, dark: bool) -> Page:
    """Returns a page with a video at its moment, paused where a word of the question is spoken."""
    page = _opened(browser, sample, "/?q=who+repairs+the+violin", dark=dark)
    page.wait_for_selector(_RESULTS)
    page.locator("#results .card[data-kind=video] .open").first.click()
    page.wait_for_selector(".caption mark")
    page.evaluate("document.querySelector('video').pause()")
    return page


def _opened(
    browser: Browser, sample: SamplePage, path: str, *, size: tuple[int, int] = _WIDE, dark: bool = False
) -> Page:
    context = browser.new_context(
        base_url=sample.url,
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        locale="en-GB",
    )
    context.add_init_script("Math.random = () => 0.42;")  # the examples of the start are other ones each time
    page = context.new_page()
    page.goto(path)
    return page


def _shot(page: Page) -> bytes:
    """Returns the page as PNG, once its images are loaded."""
    page.wait_for_function("() => [...document.images].every((image) => image.complete || image.loading === 'lazy')")
    drawn = page.screenshot()
    page.context.close()
    return drawn


def _written(png: bytes, path: Path) -> Path:
    """Writes an image as WebP, in the best quality that is small enough."""
    with Image.open(io.BytesIO(png)) as image:
        for quality in (90, 80, 70, 60):
            image.convert("RGB").save(path, quality=quality, method=6)
            if path.stat().st_size <= MAX_BYTES:
                break
    return path


def _announce_all(sample: SamplePage) -> None:
    """Fills the stream with some of what was indexed, as fresh as it would be on a quiet machine."""
    arrivals = (
        ("media.text", "notes/owl-flight", Collection.TEXT, 310),
        ("media.image", "photos/telescope.jpg", Collection.IMAGE, 420),
        ("media.audio", "media/note-anchor.ogg", Collection.SPEECH, 1_900),
        ("media.text", "notes/onion-tears", Collection.TEXT, 280),
        ("media.image", "photos/sailboat.jpg", Collection.IMAGE, 390),
        ("media.video", "media/workshop.mp4", Collection.FRAME, 3_400),
        ("media.text", "notes/soap-how", Collection.TEXT, 300),
        ("media.image", "photos/violin.jpg", Collection.IMAGE, 410),
    )
    for place, (topic, key, collection, fresh_ms) in enumerate(arrivals):
        age_s = 1.7 * (len(arrivals) - place)
        announce(sample, collection, topic=topic, key=key, fresh_ms=fresh_ms, age_s=age_s)


if __name__ == "__main__":
    raise SystemExit(main())
