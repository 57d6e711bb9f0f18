"""Measures spelling and suggestions: `python -m benchmarks.understand [SET]`.

Times are for vocabularies of 10,000, 100,000 and 200,000 made words: of a question with two misspelt words, of one
without, and of suggestions for one to four typed letters. Elapsed time contains the time that other processes held the
core, processor time does not. The longest pause is that of an event loop while a thread makes a vocabulary, beside one
that sleeps as long.

With the folder of an evaluation set (docs/evaluate.md), counts how many words of its texts are recovered after a random
edit, and how many of its English questions are changed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from penstock.analysis.language_detector import load_detector
from penstock.config import QuerySettings
from penstock.query.suggest import suggest
from penstock.query.trace import Trace
from penstock.query.types import SearchRequest
from penstock.query.understand.dictionary import Dictionary
from penstock.query.understand.language import detect_language
from penstock.query.understand.spelling import correct, unknown_words
from penstock.query.understand.understanding import Understanding, WordTools
from penstock.query.understand.validate import validate
from penstock.query.understand.vocabulary import Vocabulary, WordCounts, count_words
from penstock.query.understand.words import MIN_CORRECTED_CHARS, is_alphabetic
from penstock.records import Collection
from penstock.store.base import EntryText

SIZES = (10_000, 100_000, 200_000)
QUESTIONS = 400
EDITED_WORDS = 600
SEED = 20
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SYLLABLES = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "is", "on")]


def made_words(size: int, drawn: random.Random) -> list[str]:
    """Returns distinct words of two to five syllables, as many of which resemble each other as in a language."""
    words: dict[str, None] = {}
    while len(words) < size:
        words["".join(drawn.choices(_SYLLABLES, k=drawn.randint(2, 5)))] = None
    return list(words)


def edited(word: str, drawn: random.Random) -> str:
    """Returns a word with one random deletion, insertion, substitution or transposition."""
    while True:
        place, letter = drawn.randrange(len(word)), drawn.choice(_LETTERS)
        before, after = word[:place], word[place:]
        changed = drawn.choice(
            (before + after[1:], before + letter + after, before + letter + after[1:],
             before + after[1:2] + after[:1] + after[2:])
        )  # fmt: skip
        if changed != word:
            return changed


class _OneTenant:
    """The vocabulary of every tenant."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def get(self, tenant: str) -> Vocabulary:
        """Returns it."""
        return self._vocabulary


def measure_size(size: int) -> dict[str, float]:
    """Returns the figures of a vocabulary of made words."""
    drawn = random.Random(SEED)
    words = made_words(size, drawn)
    counts = WordCounts({word: int(drawn.paretovariate(1.0)) for word in words})
    started_s = time.process_time()
    vocabulary = Vocabulary(counts)
    figures = {"words": float(size), "made_cpu_s": time.process_time() - started_s}
    figures["memory_mb"] = _memory_mb(counts)
    figures["longest_pause_ms"] = asyncio.run(_longest_pause_ms(lambda: Vocabulary(counts)))
    figures["longest_pause_beside_sleep_ms"] = asyncio.run(_longest_pause_ms(lambda: time.sleep(figures["made_cpu_s"])))
    misspelt = [f"{edited(drawn.choice(words), drawn)} {edited(drawn.choice(words), drawn)}" for _ in range(QUESTIONS)]
    right = [" ".join(drawn.choices(words, k=6)) for _ in range(QUESTIONS)]
    for name, questions in (("misspelt", misspelt), ("right", right)):
        figures |= _percentiles(name, asyncio.run(_understood(vocabulary, questions)))
    typed = [drawn.choice(words)[: drawn.randint(1, 4)] for _ in range(QUESTIONS)]
    figures |= _percentiles("suggest", [_timed(partial(suggest, text, vocabulary)) for text in typed])
    return {name: round(figure, 3) for name, figure in figures.items()}


async def _understood(vocabulary: Vocabulary, questions: Sequence[str]) -> list[tuple[float, float]]:
    """Returns elapsed and processor milliseconds of the whole step for each question."""
    settings = QuerySettings()
    tools = WordTools(_OneTenant(vocabulary), Dictionary())  # type: ignore[arg-type]
    understanding = Understanding(tools, settings)
    times: list[tuple[float, float]] = []
    for question in questions:
        query = validate(SearchRequest(text=question), settings)
        started_s, cpu_s = time.perf_counter(), time.process_time()
        await understanding.understand(query, Trace(time.monotonic))
        times.append(((time.perf_counter() - started_s) * 1e3, (time.process_time() - cpu_s) * 1e3))
    understanding.close()
    return times


async def _longest_pause_ms(work: Callable[[], object]) -> float:
    """Returns the longest time that an event loop waits for its turn while a thread works."""
    working = asyncio.create_task(asyncio.to_thread(work))
    longest_s = 0.0
    while not working.done():
        before_s = time.perf_counter()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.perf_counter() - before_s - 0.001)
    return longest_s * 1e3


def _memory_mb(counts: WordCounts) -> float:
    """Returns what a vocabulary allocates, with its words."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    vocabulary = Vocabulary(counts)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before + sum(sys.getsizeof(word) for word in counts.words)) / 1e6 if len(vocabulary) else 0.0


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    started_s, cpu_s = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - started_s) * 1e3, (time.process_time() - cpu_s) * 1e3


def _percentiles(name: str, times: Sequence[tuple[float, float]]) -> dict[str, float]:
    elapsed, cpu = sorted(ms for ms, _ in times), sorted(ms for _, ms in times)
    figures = {f"{name}_p50_ms": elapsed[len(elapsed) // 2], f"{name}_p95_ms": elapsed[len(elapsed) * 95 // 100]}
    return figures | {f"{name}_cpu_p50_ms": cpu[len(cpu) // 2], f"{name}_cpu_p95_ms": cpu[len(cpu) * 95 // 100]}


def measure_set(folder: Path) -> dict[str, Any]:
    """Returns the recovery of edited words of an evaluation set, and the share of its questions that are changed."""
    texts = [json.loads(line) for line in (folder / "corpus.jsonl").read_text("utf-8").splitlines()]
    entries = [EntryText(text["_id"], 0, text["title"], text["text"]) for text in texts]
    counts = count_words([(Collection.TEXT, entries)])
    vocabulary, dictionary, drawn = Vocabulary(counts), Dictionary(), random.Random(SEED)
    words = sorted(word for word in counts.words if len(word) >= MIN_CORRECTED_CHARS and is_alphabetic(word))
    by_frequency = drawn.choices(words, [counts.words[word] for word in words], k=EDITED_WORDS)
    questions = [json.loads(line) for line in (folder / "queries.jsonl").read_text("utf-8").splitlines()]
    english = [question["text"] for question in questions if question["lang"] == "en"]
    sampled = drawn.sample(english, min(1_000, len(english)))
    return {
        "set": folder.name,
        "words": len(vocabulary),
        "recovered_by_frequency": _recovered(by_frequency, vocabulary, dictionary, drawn),
        "recovered_of_distinct": _recovered(
            drawn.sample(words, min(EDITED_WORDS, len(words))), vocabulary, dictionary, drawn
        ),
        "questions": len(sampled),
        "changed": sum(bool(_corrections(question, vocabulary, dictionary)) for question in sampled),
    }


def _recovered(words: Sequence[str], vocabulary: Vocabulary, dictionary: Dictionary, drawn: random.Random) -> float:
    """Returns the share of edited words that are corrected to what they were.

    An edit that gives another word, or one of fewer letters than are corrected, is made again.
    """
    recovered = 0
    for word in words:
        misspelt = edited(word, drawn)
        while misspelt in vocabulary or dictionary.knows(misspelt, None) or len(misspelt) < MIN_CORRECTED_CHARS:
            misspelt = edited(word, drawn)
        recovered += _corrections(misspelt, vocabulary, dictionary) == [vocabulary.written(word)]
    return round(recovered / len(words), 3)


def _corrections(question: str, vocabulary: Vocabulary, dictionary: Dictionary) -> list[str]:
    detected = detect_language(question)
    unknown = unknown_words(question, vocabulary, dictionary, None if detected is None else detected.code)
    return [correction.corrected for correction in correct(unknown, vocabulary)]


def main(folders: Sequence[str]) -> None:
    """Prints the figures as JSON."""
    load_detector()
    figures = [measure_set(Path(folder)) for folder in folders] or [measure_size(size) for size in SIZES]
    for row in figures:
        print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1:])
