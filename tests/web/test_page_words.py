"""The page keeps what was typed, says what is gone or broken, and leaves the focus where the user was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.web.test_page import search

pytestmark = pytest.mark.exhaustive

NOBODY = "0" * 32  # id of an entry that is not there
# Calls a function of api.js over a response whose body is cut, or is no JSON.
_CALL = """async ([name, path, body, cut, headers]) => {
  const api = await import(document.querySelector("script[type=module]").src.replace("main.js", "api.js"));
  const sent = [];
  window.fetch = async (_, options) => {
    sent.push(options);
    const stream = new ReadableStream({pull(controller) {
      if (sent.length === 1) controller.enqueue(new TextEncoder().encode(body));
      sent.push(null);
      if (sent.length < 3) return;
      if (cut) controller.error(new TypeError("network error"));
      else controller.close();
    }});
    return new Response(stream, {headers});
  };
  try {
    return [await api[name](path, {longest: 100}), sent[0].headers?.Range ?? null];
  } catch (error) {
    return [error instanceof api.Problem, error.status];
  }
}"""


def test_an_older_request_for_suggestions_does_not_end_a_newer_one(page: Any) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:  # not held.append: Playwright sets an attribute on the function
        held.append(route)

    page.route("**/v1/suggest?q=how&*", hold)
    with page.expect_request("**/v1/suggest?q=how&*"):
        page.locator("#words").press_sequentially("how")
    page.keyboard.insert_text(" pengu")
    page.wait_for_selector("#suggestions [role=option]")


def test_a_changed_transcript_is_kept_by_every_control(new_page: Callable[..., Any]) -> None:
    page = new_page(f"/?said=onions&like={NOBODY}")
    page.fill("#said", "violin")
    page.get_by_label("Images").check()
    page.wait_for_url("**said=violin&kinds=image*")
    page.fill("#said", "owl")
    page.get_by_label("Weight of: Words").press("ArrowLeft")
    page.wait_for_url("**said=owl*w.text=0.9*")
    page.fill("#said", "penguin")
    page.get_by_role("button", name="Reset").click()
    page.wait_for_url("**said=penguin*")
    assert page.evaluate("document.activeElement.type") == "range"
    page.fill("#said", "ladder")
    page.get_by_role("button", name="Remove more like").click()
    page.wait_for_url("**said=ladder*")
    page.get_by_role("button", name="Remove the spoken words").click()
    page.wait_for_url(lambda url: "said=" not in url)


def test_the_focus_is_in_the_box_after_a_choice_about_the_words(new_page: Callable[..., Any]) -> None:
    page = new_page("/?q=penguins&literal=spelling")
    page.get_by_role("button", name="Correct and widen it again").click()
    page.wait_for_url(lambda url: "literal" not in url)
    assert page.evaluate("document.activeElement.id") == "words"


@pytest.mark.parametrize(("width", "status"), [(1280, "#status"), (700, "#viewer > [role=status]")])
def test_what_is_opened_is_announced_where_it_is_read(new_page: Callable[..., Any], width: int, status: str) -> None:
    page = new_page(viewport={"width": width, "height": 900})
    search(page, "why do onions sting")
    page.locator("#results .card .open").first.click()
    page.wait_for_selector("#viewer[open] .reading")
    assert page.locator(status).inner_text().startswith("Opened ")
    page.press("#viewer-title", "Escape")
    assert page.locator("#viewer > *").count() == 1


def test_a_question_whose_image_is_gone_is_not_asked_without_it(new_page: Callable[..., Any]) -> None:
    sent: list[str] = []
    page = new_page()
    page.on("request", lambda request: sent.append(request.url) if "/v1/ask" in request.url else None)
    page.goto("/?q=what+is+this&ask=1&image=p1-1&region=0,0,0.5,0.5")
    page.locator("#notices .notice", has_text="only in the tab that it came from").wait_for()
    assert page.locator("#answer").is_hidden()
    assert sent == []


def test_a_page_of_a_proxy_is_told_as_a_failure(page: Any) -> None:
    page.route("**/v1/search", lambda route: route.fulfill(content_type="text/html", body="<p>Log in</p>"))
    page.fill("#words", "onions")
    page.press("#words", "Enter")
    page.locator("#notices .notice", has_text="a proxy between may have sent it").wait_for()
    assert page.get_by_role("button", name="Try again").count() == 1


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (["get", "v1/suggest", '{"a"', True, {}], [True, 0]),
        (["post", "v1/search", "<p>", False, {}], [True, 502]),
        (["get", "v1/suggest", '{"a": 1}', False, {}], [{"a": 1}, None]),
        (["text", "v1/media/x", "words", False, {}], ["words", "bytes=0-99"]),
        (["text", "v1/media/x", "words", True, {}], [True, 0]),
        (["text", "v1/media/x", "words", False, {"Content-Range": "bytes 0-99/101"}], [None, "bytes=0-99"]),
    ],
)
def test_bodies_are_read_or_fail_as_problems(page: Any, call: list[Any], result: list[Any]) -> None:
    assert page.evaluate(_CALL, call) == result


@pytest.mark.parametrize("width", [1120, 1280, 1440])
def test_the_search_box_of_results_leaves_the_tools_of_the_page_free(new_page: Callable[..., Any], width: int) -> None:
    page = new_page("/?q=how+penguins+keep+warm", viewport={"width": width, "height": 900})
    page.wait_for_selector("body:not([data-view='empty'])")
    page.evaluate("document.getElementById('add-toggle').hidden = false")  # as for those who may add files
    box, tools = page.locator(".composer").bounding_box(), page.locator("header .tools").bounding_box()
    assert box["x"] + box["width"] <= tools["x"]
