"""A verifier beside the rules."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.encoders.entailment import Entailment, EntailmentModel
from penstock.errors import ConfigError
from penstock.query.generate.check import SentenceChecker
from penstock.query.generate.check.verifier import EntailmentVerifier
from penstock.query.generate.types import CheckedSentence, Support
from tests.query.generate.check.samples import text_sources

_SOURCE = "Honey holds little water. It may turn cloudy with time."


def _check(text: str, judge: Callable[[str, str], Entailment], timeout_s: float = 30) -> CheckedSentence:
    async def check() -> CheckedSentence:
        checker = SentenceChecker(verifier=EntailmentVerifier(judge, timeout_s=timeout_s))
        return await checker.check(text, [1], await checker.read(text_sources([_SOURCE])))

    return asyncio.run(check())


@pytest.mark.parametrize(
    ("judged", "support"),
    [
        (Entailment(0.9, 0.05), Support.SUPPORTED),
        (Entailment(0.05, 0.9), Support.CONTRADICTED),
        (Entailment(0.2, 0.2), Support.PARTLY),
    ],
)
def test_the_verifier_has_the_last_word_on_what_rules_support(judged: Entailment, support: Support) -> None:
    read: list[tuple[str, str]] = []

    def judge(passage: str, sentence: str) -> Entailment:
        read.append((passage, sentence))
        return judged

    checked = _check("Honey holds little water.", judge)
    assert checked.support is support
    assert (checked.because is None) == (support is Support.SUPPORTED)
    assert read == [("Honey holds little water.", "Honey holds little water.")]


def test_what_rules_contradict_stays_contradicted() -> None:
    assert _check("Honey holds no water.", lambda *_: Entailment(1.0, 0.0)).support is not Support.SUPPORTED


def test_rules_decide_if_the_verifier_fails() -> None:
    def fail(passage: str, sentence: str) -> Entailment:
        raise RuntimeError("out of memory")

    assert _check("Honey holds little water.", fail).support is Support.SUPPORTED


def test_rules_decide_if_the_verifier_is_late() -> None:
    released = threading.Event()

    def wait(passage: str, sentence: str) -> Entailment:
        released.wait(30)
        return Entailment(0.0, 1.0)

    try:
        checked = asyncio.run(_late(wait))
    finally:
        released.set()
    assert checked.support is Support.SUPPORTED


async def _late(wait: Callable[[str, str], Entailment]) -> CheckedSentence:
    checker = SentenceChecker(verifier=EntailmentVerifier(wait, timeout_s=0.01))
    return await checker.check("Honey holds little water.", [1], await checker.read(text_sources([_SOURCE])))


def test_a_model_that_cannot_be_loaded_is_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        EntailmentModel(str(tmp_path))
