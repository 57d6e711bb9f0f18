"""Text → passages with exact offsets."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.config import TextSettings
from penstock.encoders.base import Tokenizer
from penstock.errors import BadInputError, Reason
from penstock.media.text.passages import TextDocument, _split, cut_passages, decode_text, normalize_text
from penstock.records import FetchedMedia

SMALL = TextSettings(max_passage_tokens=20, overlap_tokens=8)


@pytest.fixture
def decode(fetched_of: Callable[..., FetchedMedia], tokenizer: Tokenizer) -> Callable[..., TextDocument]:
    def run(data: bytes | str, *, declared: str | None = None, limits: TextSettings = SMALL) -> TextDocument:
        return decode_text(fetched_of(data, declared=declared), settings=limits, tokenizer=tokenizer)

    return run


def _prose(sentences: int, seed: int = 1) -> str:
    source = random.Random(seed)
    words = ["river", "stone", "bridge", "mill", "wheel", "turns", "slowly", "under", "green", "old", "trees"]
    lines = (" ".join(source.choices(words, k=source.randint(2, 9))).capitalize() + "." for _ in range(sentences))
    return " ".join(lines)


def test_passages_end_where_sentences_end(decode: Callable[..., TextDocument]) -> None:
    document = decode(_prose(100))
    assert len(document.passages) > 10
    assert all(passage.text[0].isupper() and passage.text.endswith(".") for passage in document.passages)


def test_offsets_cut_the_passage_out_of_the_text(decode: Callable[..., TextDocument]) -> None:
    document = decode(
        _prose(50) + "\r\n\r\n  Zwei\tWörter…\u00a0hier.\u2029これは文です。次の文！\n\n\n" + _prose(20, seed=2)
    )
    assert all(document.text[p.start_char : p.end_char] == p.text for p in document.passages)
    assert document.passages[0].start_char == 0
    assert document.passages[-1].end_char == len(document.text)


def test_no_passage_has_more_tokens_than_allowed(decode: Callable[..., TextDocument], tokenizer: Tokenizer) -> None:
    document = decode(_prose(300) + " " + "word " * 500 + "中" * 500 + ". Dr. Smith, e.g. the one at no. 5, said so.")
    assert max(tokenizer.count([passage.text for passage in document.passages])) <= SMALL.max_passage_tokens


def test_whole_sentences_are_repeated_up_to_the_overlap(
    decode: Callable[..., TextDocument], tokenizer: Tokenizer
) -> None:
    document = decode(_prose(100))
    shared = []
    for before, after in zip(document.passages, document.passages[1:], strict=False):
        assert before.start_char < after.start_char < before.end_char + 2
        assert before.end_char < after.end_char
        shared.append(document.text[after.start_char : before.end_char])
    counts = tokenizer.count(shared)
    assert max(counts) <= SMALL.overlap_tokens
    assert sum(count > 0 for count in counts) > len(counts) / 2
    assert all(text == "" or (text[0].isupper() and text[-1] == ".") for text in shared)


def test_without_overlap_passages_do_not_share(decode: Callable[..., TextDocument]) -> None:
    document = decode(_prose(60), limits=TextSettings(max_passage_tokens=20, overlap_tokens=0))
    ends = [0, *(passage.end_char for passage in document.passages)]
    assert all(passage.start_char >= end for passage, end in zip(document.passages, ends, strict=False))


def test_a_sentence_longer_than_a_passage_is_cut_between_words(decode: Callable[..., TextDocument]) -> None:
    words = [f"word{number}" for number in range(100)]
    document = decode(" ".join(words), limits=TextSettings(max_passage_tokens=16, overlap_tokens=0))
    assert [word for passage in document.passages for word in passage.text.split()] == words


def test_a_word_longer_than_a_passage_is_cut_hard_and_nothing_is_lost(decode: Callable[..., TextDocument]) -> None:
    document = decode("中" * 333, limits=TextSettings(max_passage_tokens=16, overlap_tokens=0))
    assert "".join(passage.text for passage in document.passages) == "中" * 333


def test_a_passage_is_bounded_in_characters_where_a_word_is_one_token(decode: Callable[..., TextDocument]) -> None:
    document = decode("a" * 100_000)
    assert max(len(passage.text) for passage in document.passages) <= 16 * SMALL.max_passage_tokens


@pytest.mark.parametrize(
    "text",
    ["これは文です。次の文です。三つ目！", "今天天气很好。我们去公园吧！好吗？", "मैं घर जा रहा हूँ। वह आया। सब ठीक है।"],
)
def test_sentences_of_other_scripts_are_split(text: str) -> None:
    assert len(_split(text)) >= 3


def test_a_failure_inside_sentencex_leaves_the_block_whole() -> None:
    assert _split("B\u3000\t\u2029B\u3000.'”") == ["B\u3000\t\u2029B\u3000.'”"]  # panics in sentencex 1.0.32


def test_control_characters_are_dropped_and_white_space_is_normalised() -> None:
    assert normalize_text("\ufeffa\x00b\x07  \t c\r\n d \u00a0\n\n\n\n e\u2028f\x1b[0m") == "ab c\nd\n\ne\nf[0m"


@pytest.mark.parametrize(
    ("data", "declared", "title"),
    [
        ("<html><head><title>My  page\n</title></head><body><p>words", None, "My page"),
        ("# My *head*\n\nwords", "text/markdown", "My head"),
        ("My first line\n\nwords", None, ""),
    ],
)
def test_title_of_the_document(
    decode: Callable[..., TextDocument], data: str, declared: str | None, title: str
) -> None:
    assert decode(data, declared=declared).title == title


@pytest.mark.parametrize("data", [b" \n\t ", "\ufeff".encode(), b"<html><script>x()</script></html>"])
def test_a_text_without_words_is_rejected(decode: Callable[..., TextDocument], data: bytes) -> None:
    with pytest.raises(BadInputError, match="contain no text") as caught:
        decode(data)
    assert caught.value.reason is Reason.CORRUPT


def test_more_passages_than_allowed_are_rejected(decode: Callable[..., TextDocument]) -> None:
    limits = TextSettings(max_passage_tokens=20, overlap_tokens=8, max_passages=5)
    with pytest.raises(BadInputError, match="more than 5 passages") as caught:
        decode(_prose(200), limits=limits)
    assert caught.value.reason is Reason.TOO_LARGE


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(
        alphabet=st.sampled_from("aB. !?\"'()[]\n\t,;1。！“”😀é\u0301\u200d\u3000ก।؟…\x85\u2028中"), max_size=400
    )
)
def test_passages_cover_every_word_of_any_text(text: str) -> None:
    class Characters:
        def count(self, texts: list[str]) -> list[int]:
            return [len(text.replace(" ", "").replace("\n", "")) for text in texts]

    clean = normalize_text(text)
    passages = cut_passages(
        clean, settings=TextSettings(max_passage_tokens=16, overlap_tokens=8), tokenizer=Characters()
    )
    covered = set()
    for passage in passages:
        assert clean[passage.start_char : passage.end_char] == passage.text == passage.text.strip()
        assert Characters().count([passage.text])[0] <= 16
        covered.update(range(passage.start_char, passage.end_char))
    assert all(index in covered or char.isspace() for index, char in enumerate(clean))


@pytest.mark.parametrize(
    ("unit", "megabytes"),
    [
        ("a", 10),
        (".", 10),
        ("中", 10),
        ("a\n", 1),
        (" a", 1),
        ("“", 1),
        ('?"', 1),
        ("\u0301", 1),
        ("A. ", 1),
        ("x\n\n", 1),
    ],
)
def test_time_grows_linearly_with_the_length(
    fetched_of: Callable[..., FetchedMedia], tokenizer: Tokenizer, unit: str, megabytes: int
) -> None:
    size = len(unit.encode())
    fetched = fetched_of(unit.encode() * (megabytes * 1_000_000 // size))
    started = time.process_time()
    with contextlib.suppress(BadInputError):  # more passages than allowed: an outcome, too
        decode_text(fetched, settings=TextSettings(), tokenizer=tokenizer)
    assert time.process_time() - started < 30


def test_newlines_alone_take_almost_no_time(decode: Callable[..., TextDocument]) -> None:
    started = time.process_time()
    with pytest.raises(BadInputError, match="contain no text"):
        decode("\n" * 10_000_000)
    assert time.process_time() - started < 10


def test_passages_of_the_real_tokenizer_fit_the_encoder(fetched_of: Callable[..., FetchedMedia]) -> None:
    from penstock.encoders.profiles import load_profile
    from penstock.encoders.tokenizer import load_tokenizer

    real = load_tokenizer(load_profile("reference"))
    text = _prose(400) + " Überraschung! " + "日本語の文章です。" * 60 + " 1,234.56 e.g. http://a.b/c?d=e " * 30
    document = decode_text(fetched_of(text), settings=TextSettings(), tokenizer=real)
    assert max(real.count([passage.text for passage in document.passages])) <= TextSettings().max_passage_tokens
