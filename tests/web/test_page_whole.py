"""The rest of the page in a browser: accessibility, narrow screens, voice, the stream, and what each control does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.query.generate.types import AnswerEvent, AskRequest, DoneEvent
from penstock.records import Collection
from tests.serve.scripted_answers import SEARCH, WHOLE, ScriptedAnswers, answer
from tests.web.relay import Relay
from tests.web.test_page import first_titles, search
from tools.screenshots.sample_page import SamplePage, announce

pytestmark = pytest.mark.exhaustive

# axe-core's rules for WCAG 2.2 AA, and its best practices.
_AXE = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}

# Keeps what was read of streams of events.
_RECEIVED = """
window.__received = "";
const read = ReadableStreamDefaultReader.prototype.read;
ReadableStreamDefaultReader.prototype.read = async function () {
  const result = await read.call(this);
  if (typeof result.value === "string") window.__received += result.value;
  return result;
};
"""
_TURN = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def _at_start(page: Any) -> None:
    page.wait_for_selector("#start .example")


def _with_results(page: Any) -> None:
    search(page, "who repairs the hammer")
    page.locator("#results .card").first.get_by_role("button", name="Why").click()
    page.wait_for_selector(".why .gauge")


def _playing(page: Any) -> None:
    search(page, "who repairs the hammer")
    page.locator("#results .card[data-kind=video] .open").first.click()
    page.wait_for_selector(".caption mark")


def _answered(page: Any) -> None:
    page.fill("#words", "What makes onions sting?")
    page.get_by_role("button", name="Ask").click()
    page.wait_for_selector("#answer[data-state=done] .cite")
    page.locator(".cite").first.click()
    page.wait_for_selector("#viewer mark")


STATES: dict[str, Callable[[Any], None]] = {
    "start": _at_start,
    "results": _with_results,
    "playing": _playing,
    "answer": _answered,
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation(new_page: Callable[..., Any], state: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = new_page(color_scheme=scheme, reduced_motion="reduce")
    STATES[state](page)
    report = axe.Axe().run(page, options=_AXE)
    assert len(report.response["passes"]) > 15  # the rules did run
    assert report.violations_count == 0, report.generate_report()


@pytest.mark.parametrize("state", STATES)
def test_a_page_of_320_pixels_scrolls_in_one_direction(new_page: Callable[..., Any], state: str) -> None:
    page = new_page(viewport={"width": 320, "height": 700}, reduced_motion="reduce")
    STATES[state](page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    sizes = page.evaluate(
        """() => [...document.querySelectorAll("button, a[href], input:not([type=file]), summary")]
          .filter((element) => element.checkVisibility() && !element.closest(".quiet, .skip"))
          .filter((element) => getComputedStyle(element).display !== "inline")
          .map((element) => [element.outerHTML.slice(0, 80), element.getBoundingClientRect()])
          .filter(([, {width, height}]) => width > 0 && (width < 24 || height < 24))"""
    )
    assert sizes == []


def test_every_control_is_reached_with_tab_and_the_focus_is_seen(page: Any) -> None:
    search(page, "why do onions sting")
    page.locator("#home").focus()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => {
              const element = document.activeElement;
              const style = getComputedStyle(element);
              const around = element.closest(".composer, .pill");
              const seen = style.outlineStyle !== "none" || (around && getComputedStyle(around).boxShadow !== "none")
                || (around && getComputedStyle(around).outlineStyle !== "none");
              return [element.id || element.className || element.tagName, seen];
            }"""
        )
        assert outline, name
        reached.append(name)
    assert {"words", "pick", "record", "ask", "search", "tenant", "open"} <= set(reached)


def test_shortcuts_of_single_keys_can_be_switched_off(page: Any) -> None:
    search(page, "why do onions sting")
    page.locator("#results .card .open").first.focus()
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('li').previousElementSibling !== null")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "words"
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Shortcuts of single keys").uncheck()
    page.keyboard.press("Escape")
    page.locator("#results .card .open").first.focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") != "words"


def test_why_has_channels_places_and_shares(page: Any) -> None:
    search(page, "why do onions sting")
    page.locator("#results .card").first.get_by_role("button", name="Why").click()
    page.wait_for_selector(".why .gauge")
    rows = page.locator(".why").first.locator("tbody tr").all_inner_texts()
    assert any("Words in the text" in row and "#1" in row for row in rows)
    assert "estimated probability of" in page.locator(".why").first.inner_text()


def test_more_and_less_like_a_hit(page: Any) -> None:
    search(page, "why do onions sting")
    first = first_titles(page)[0]
    page.get_by_role("button", name=f"Less like {first}").click()
    page.wait_for_function("() => location.search.includes('not=')")
    page.wait_for_selector("#results:not([aria-busy=true]) .card:not(.ghost)")
    assert first not in first_titles(page)
    assert page.locator("#chips .chip").inner_text() == f"Less like {first}"
    page.go_back()
    page.wait_for_function("() => !location.search.includes('not=')")
    page.get_by_role("button", name=f"More like {first}").click()
    page.wait_for_function("() => location.search.includes('like=')")
    page.wait_for_selector("#results:not([aria-busy=true]) .card:not(.ghost)")
    assert page.locator("#chips .chip").inner_text() == f"More like {first}"
    assert page.input_value("#words") == ""


def test_spelling_is_undone(page: Any) -> None:
    line = page.locator(".understood p").first
    for _ in range(10):  # a look-up that a busy machine does not finish in time is given up
        search(page, "pengiuns keep warm")
        if line.count():
            break
        page.reload()
    if "Did you mean" in line.inner_text():
        line.get_by_role("button").click()
        page.wait_for_function("() => document.querySelector('#words').value.includes('penguins')")
    else:
        line.get_by_role("button", name="Search exactly what I wrote").click()
        page.wait_for_function("() => location.search.includes('literal=spelling')")
    page.wait_for_selector("#results:not([aria-busy=true]) .card:not(.ghost)")


def test_kinds_and_tenant_filter(page: Any) -> None:
    search(page, "violin")
    page.get_by_label("Images").check()
    page.wait_for_function("() => location.search.includes('kinds=image')")
    page.wait_for_selector("#results:not([aria-busy=true]) .card:not(.ghost)")
    kinds = page.locator("#results .card").evaluate_all("(cards) => cards.map((card) => card.dataset.kind)")
    assert set(kinds) == {"image"}
    page.fill("#tenant", "nobody")
    page.press("#tenant", "Enter")
    page.wait_for_selector("#results .notice")
    assert page.locator("#results .notice h2").inner_text() == "Nothing was found"


def test_weights_are_part_of_the_address(page: Any) -> None:
    search(page, "violin")
    page.get_by_role("button", name="Less like").first.click()
    page.wait_for_selector(".weights input")
    slider = page.get_by_label("Weight of: Less like")
    slider.focus()
    slider.press("ArrowLeft")
    page.wait_for_function("() => location.search.includes('w.not=0.4')")
    page.keyboard.press("ArrowLeft")  # the slider was drawn again, and still has the focus
    page.wait_for_function("() => location.search.includes('w.not=0.3')")


def test_the_stream_shows_what_was_indexed_and_opens_it(page: Any, samples: SamplePage) -> None:
    page.wait_for_selector("#stream:not([hidden])")
    announce(samples, Collection.TEXT, topic="media.text", key="notes/soap-how", fresh_ms=420)
    row = page.locator("#stream .row", has_text="How soap cleans").first
    row.wait_for()
    assert "searchable after 0.4 s" in row.inner_text()
    row.click()
    page.wait_for_selector("#viewer[open] .reading")
    assert page.locator("#viewer-title").inner_text() == "How soap cleans"


def test_a_paused_stream_holds_what_arrives(page: Any, samples: SamplePage) -> None:
    page.add_init_script(_RECEIVED)
    page.reload()
    rows = page.locator("#stream .row")
    announce(samples, Collection.TEXT, topic="media.text", key="notes/soap-how", fresh_ms=420)
    rows.first.wait_for()
    page.get_by_role("button", name="Pause").click()
    before = rows.count()
    page.evaluate("window.__received = ''")
    announce(samples, Collection.TEXT, topic="media.text", key="notes/owl-flight", fresh_ms=300)
    page.wait_for_function("() => window.__received.includes('owl-flight')")
    page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert rows.count() == before
    page.get_by_role("button", name="Continue").click()
    rows.filter(has_text="The silent wings of an owl").first.wait_for()
    assert rows.count() == before + 1
    page.get_by_role("button", name="Pause").click()
    page.locator("#stream-toggle").click()
    page.locator("#stream-toggle").click()
    assert page.locator("#stream .head button").inner_text() == "Pause"
    rows.first.wait_for()  # it is not paused any more


def test_a_hidden_page_holds_no_connection_and_goes_on_where_it_was(page: Any, samples: SamplePage) -> None:
    rows = page.locator("#stream .row")
    announce(samples, Collection.TEXT, topic="media.text", key="notes/soap-how", fresh_ms=420)
    rows.first.wait_for()
    before = rows.count()
    with page.expect_event("requestfailed", lambda request: "/v1/live" in request.url):
        page.evaluate(_TURN, True)
    announce(samples, Collection.TEXT, topic="media.text", key="notes/owl-flight", fresh_ms=730)
    with page.expect_request(lambda request: "/v1/live" in request.url) as again:
        page.evaluate(_TURN, False)
    rows.filter(has_text="searchable after 0.7 s").first.wait_for()
    assert "last-event-id" in again.value.headers
    assert rows.count() == before + 1


def test_a_stream_that_is_not_followed_says_why(new_page: Callable[..., Any]) -> None:
    page = new_page()
    reason = {"title": "Unavailable", "detail": "this query plane does not follow changes of the index"}
    page.route("**/v1/live*", lambda route: route.fulfill(status=503, json=reason))
    page.reload()
    note = page.locator("#stream .hint", has_text="This query plane does not follow changes of the index.")
    note.wait_for()


def test_an_answer_goes_on_after_a_broken_connection(
    new_page: Callable[..., Any], samples: SamplePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = FedAnswers(*WHOLE[:4])
    monkeypatch.setattr(samples.plane.answers, "_answers", answers)
    with Relay(samples.url).running() as relay:
        page = new_page(relay.url)
        page.fill("#words", "What do herons eat?")
        page.get_by_role("button", name="Ask", exact=True).click()
        page.wait_for_selector(".sentence")
        relay.cut()
        answers.feed_later(*WHOLE[4:])
        page.wait_for_selector("#answer[data-state=done]")
        assert page.locator(".sentence").all_inner_texts() == ["Herons eat fish.\u00a01", "A heron calls.\u00a02"]
    assert len(answers.requests) == 1  # it was continued, and not begun again


def test_the_focus_goes_from_stop_to_what_can_be_done_next(page: Any, samples: SamplePage, monkeypatch: Any) -> None:
    answers = FedAnswers(replace(SEARCH, answer_id="c" * 32), *WHOLE[1:4])
    monkeypatch.setattr(samples.plane.answers, "_answers", answers)
    page.fill("#words", "What do herons eat?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.wait_for_selector(".sentence")
    page.get_by_role("button", name="Stop").focus()
    answers.feed_later(*WHOLE[4:-1], DoneEvent(answer("c" * 32)))
    page.wait_for_selector("#answer[data-state=done]")
    assert page.evaluate("document.activeElement.textContent") == "Copy with sources"


class FedAnswers(ScriptedAnswers):
    """Yields events that a test feeds from its own thread while the answer runs."""

    async def answer(self, request: AskRequest) -> AsyncIterator[AnswerEvent]:
        """See `ScriptedAnswers.answer`."""
        self._loop = asyncio.get_running_loop()
        async for event in super().answer(request):
            yield event

    def feed_later(self, *events: AnswerEvent | Exception) -> None:
        """Adds events from any thread."""
        self._loop.call_soon_threadsafe(self.feed, *events)


def test_the_theme_is_kept(page: Any) -> None:
    toggle = page.locator("#theme-toggle")
    assert toggle.get_attribute("aria-label") == "Colours: as the system"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    toggle.click()
    toggle.click()
    assert toggle.get_attribute("aria-label") == "Colours: dark"
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_a_second_click_while_the_microphone_is_asked_for_starts_no_second_recording(page: Any) -> None:
    page.evaluate(
        """() => {
          window.__asked = 0;
          navigator.mediaDevices.getUserMedia = () => {
            window.__asked += 1;
            return new Promise(() => {});
          };
        }"""
    )
    page.get_by_role("button", name="Record a spoken question").dblclick()
    assert page.evaluate("window.__asked") == 1


def test_a_recorded_question_can_be_changed_before_it_is_searched(new_page: Callable[..., Any]) -> None:
    page = new_page(permissions=["microphone"])
    page.get_by_role("button", name="Record a spoken question").click()
    page.wait_for_selector("#recorder .level")
    page.wait_for_function("() => document.querySelector('#recorder .times')?.textContent >= '0:03'")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("#said")
    transcript = page.input_value("#said")
    assert transcript
    assert page.evaluate("document.activeElement.id") == "said"
    assert page.locator("#results").is_hidden()
    page.fill("#said", "who repairs the hammer")
    page.press("#said", "Enter")
    page.wait_for_selector("#results .card:not(.ghost)")
    assert "said=who+repairs+the+hammer" in page.url


def test_the_screenshots_are_small() -> None:
    folder = Path(__file__).parents[2] / "docs" / "images"
    sizes = [path.stat().st_size for path in folder.glob("*.webp")]
    assert sizes
    assert max(sizes) <= 300_000
