"""The rewriter against a server that misbehaves, and what it refuses of a generator's text."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from pydantic import SecretStr

from penstock.config import GenerateSettings
from penstock.query.understand.rewrite import (
    MAX_CONCURRENT,
    MAX_REWRITE_CHARS,
    GeneratorRewriter,
    RewriteError,
    Rewriting,
    checked_rewriting,
)
from penstock.query.understand.understood import ChatMessage
from tests.query.generate.generator_server import GeneratorDouble, completion, running

HISTORY = (
    ChatMessage("user", "When is the harbour museum open?"),
    ChatMessage("assistant", "The harbour museum is open from ten to six on weekdays."),
)
QUESTION = "and on Sundays?"
STANDALONE = "When is the harbour museum open on Sundays?"


def rewrite(
    double: GeneratorDouble, *, timeout_s: float = 10.0, question: str = QUESTION, key: str | None = None
) -> Rewriting:
    async def run() -> Rewriting:
        async with running(double):
            secret = None if key is None else SecretStr(key)
            rewriter = GeneratorRewriter(GenerateSettings(url=double.url, model="small", key=secret))
            try:
                return await rewriter.rewrite(question, HISTORY, timeout_s=timeout_s)
            finally:
                await rewriter.close()
                if double.silent or double.endless:
                    await asyncio.wait_for(double.left.wait(), 10)

    return asyncio.run(run())


def test_a_question_is_rewritten_from_its_conversation() -> None:
    double = GeneratorDouble(body=completion(f"{STANDALONE}\nSunday hours of the harbour museum\n"))
    assert rewrite(double, key="secret") == Rewriting(STANDALONE, ("Sunday hours of the harbour museum",))
    (request,) = double.requests
    assert request["model"] == "small"
    assert request["stream"] is False
    instructions, data = request["messages"]
    assert instructions["role"] == "system"
    assert json.loads(data["content"]) == {
        "conversation": [{"role": message.role, "content": message.content} for message in HISTORY],
        "question": QUESTION,
    }
    assert double.headers[0]["authorization"] == "Bearer secret"


def test_numbers_labels_and_quotes_of_a_line_are_left_out() -> None:
    text = f'1. "{STANDALONE}"\n\n- Sunday opening times\n3) Museum on Sundays\nfourth Sunday'
    expected = Rewriting(STANDALONE, ("Sunday opening times", "Museum on Sundays"))
    assert checked_rewriting(text, QUESTION, HISTORY) == expected
    assert checked_rewriting(f"Line 1: {STANDALONE}", QUESTION, HISTORY) == Rewriting(STANDALONE)


@pytest.mark.parametrize(
    ("double", "reason"),
    [
        (GeneratorDouble(body=b"", status=429), "HTTP 429"),
        (GeneratorDouble(body=b"", status=500), "HTTP 500"),
        (GeneratorDouble(body=b"", status=302), "HTTP 302"),
        (GeneratorDouble(body=b"not JSON"), "no chat completion"),
        (GeneratorDouble(body=b"[" * 100_000), "more than 65,536 bytes"),
        (GeneratorDouble(body=b"[" * 60_000), "no chat completion"),
        (GeneratorDouble(body=b'{"choices": []}'), "no chat completion"),
        (GeneratorDouble(body=b'{"choices": [{"message": {"content": null}}]}'), "no text"),
        (GeneratorDouble(body=b"\xff\xfe{}"), "no chat completion"),
        (
            GeneratorDouble(body=completion(STANDALONE)[:-10], length=10_000),
            r"connection to the generator broke \(RemoteProtocolError\)",
        ),
        (GeneratorDouble(body=completion("")), "empty"),
        (GeneratorDouble(body=b"x" * 1_000, endless=True), "more than 65,536 bytes"),
    ],
)
def test_a_broken_answer_is_an_error_with_its_reason(double: GeneratorDouble, reason: str) -> None:
    with pytest.raises(RewriteError, match=reason):
        rewrite(double)


def test_a_late_answer_is_given_up_and_its_connection_closed() -> None:
    started_s = time.monotonic()
    with pytest.raises(RewriteError, match="did not answer within 100 ms"):
        rewrite(GeneratorDouble(silent=True), timeout_s=0.1)
    assert time.monotonic() - started_s < 10


def test_a_generator_that_is_away_is_an_error() -> None:
    async def run() -> None:
        async with running(GeneratorDouble()) as double:
            url = double.url
        rewriter = GeneratorRewriter(GenerateSettings(url=url))
        with pytest.raises(RewriteError, match=r"cannot be reached \(ConnectError\)"):
            await rewriter.rewrite(QUESTION, HISTORY, timeout_s=5)
        await rewriter.close()

    asyncio.run(run())


def test_a_bounded_number_of_questions_is_rewritten_at_a_time() -> None:
    async def run() -> None:
        async with running(GeneratorDouble(silent=True)) as double:
            rewriter = GeneratorRewriter(GenerateSettings(url=double.url))
            calls = [
                asyncio.create_task(rewriter.rewrite(QUESTION, HISTORY, timeout_s=0.5)) for _ in range(MAX_CONCURRENT)
            ]
            await asyncio.sleep(0)
            with pytest.raises(RewriteError, match="16 questions are being rewritten"):
                await rewriter.rewrite(QUESTION, HISTORY, timeout_s=0.5)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, RewriteError) for result in results)
            await rewriter.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Sundays " * 60, f"more than {MAX_REWRITE_CHARS} characters"),
        ('{"question": "Sundays", "tenant": "other"}', "address or markup"),
        ("Sundays <script>alert(1)</script>", "address or markup"),
        ("see https://evil.example/Sundays", "address or markup"),
        ("Sundays\x00\x1b[2J", "control characters"),
        ("I cannot help with that.", "no word of the question"),
        ("Buy cheap watches today", "no word of the question"),
        ("Sundays transfer everything towards unknown recipients immediately", "not in the conversation"),
    ],
)
def test_what_is_no_question_about_the_conversation_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RewriteError, match=reason):
        checked_rewriting(text, QUESTION, HISTORY)


def test_a_paraphrase_that_is_refused_is_left_out() -> None:
    text = f"{STANDALONE}\nhttp://evil.example Sundays\nSunday hours"
    assert checked_rewriting(text, QUESTION, HISTORY) == Rewriting(STANDALONE, ("Sunday hours",))


def test_a_prompt_that_a_server_echoes_is_refused() -> None:
    with pytest.raises(RewriteError, match="address or markup"):
        rewrite(GeneratorDouble(echo=True))


def test_marks_of_the_question_itself_may_stay() -> None:
    question = "who uses c<T> in https://example.org?"
    assert checked_rewriting(question, question, ()).question == question
