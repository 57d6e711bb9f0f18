"""Tests what a generator reads: in which order, within which room, and how little the sources can do to it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import GenerateSettings
from penstock.query.generate.prompt import Prompt, build_prompt, shown_prompt
from penstock.query.generate.template import packaged_template, parse_template
from penstock.query.generate.tokens import estimate_tokens
from penstock.query.generate.types import Source
from penstock.query.types import Hit, Moment
from penstock.query.understand.understood import ChatMessage
from penstock.records import AssetRef, Collection, bare_entry
from tests.query.generate.hostile import CANARY, HOSTILE, hostile_sources

SETTINGS = GenerateSettings()
SMALL = GenerateSettings(context_tokens=1_024, max_tokens=128)
SENTENCE = "The heron waits by the river until noon. "


def source(number: int, text: str, *, title: str = "Herons", collection: Collection = Collection.TEXT) -> Source:
    entry = replace(bare_entry(AssetRef("default", "notes", str(number)), collection), title=title, text=text)
    return Source(number, Hit(entry, 1.0, ()), text)


def text_of(prompt: Prompt) -> str:
    content = prompt.messages[1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def block(prompt: Prompt, name: str) -> list[str]:
    """Returns the lines between the delimiters of a part."""
    text = text_of(prompt)
    assert text.count(f"<{name}>") == text.count(f"</{name}>") == 1
    lines = text.partition(f"<{name}>\n")[2].partition(f"</{name}>")[0].split("\n")
    assert lines.pop() == ""
    return lines


def test_instructions_come_first_then_sources_profile_conversation_question_and_language() -> None:
    prompt = build_prompt(
        "When does it leave?\nAnd where?",
        [source(1, "It waits. It leaves at noon."), source(2, "A photo\n\nof a heron", collection=Collection.IMAGE)],
        SETTINGS,
        history=[ChatMessage("user", "Where is the heron?"), ChatMessage("assistant", "By the river [1].")],
        profile={"domain": "birds", "intent": "watching"},
        language="de",
    )
    instructions, user = prompt.messages
    assert instructions == {"role": "system", "content": packaged_template().system}
    assert user == {
        "role": "user",
        "content": (
            '<sources>\n[1] "Herons" (text): It waits. It leaves at noon.\n[2] "Herons" (image): A photo … of a heron\n'
            "</sources>\n<profile>\ndomain: birds\nintent: watching\n</profile>\n<conversation>\n"
            "user: Where is the heron?\nassistant: By the river (1).\n</conversation>\n<question>\n"
            "When does it leave?\nAnd where?\n</question>\nWrite in German."
        ),
    }
    assert prompt.left_out == prompt.notices == ()
    assert [kept.number for kept in prompt.sources] == [1, 2]


def test_what_is_not_there_leaves_no_trace() -> None:
    prompt = build_prompt("When?", [source(1, "At noon.")], SETTINGS)
    assert text_of(prompt) == ('<sources>\n[1] "Herons" (text): At noon.\n</sources>\n<question>\nWhen?\n</question>')
    assert "<sources>\n</sources>\n<question>" in text_of(build_prompt("When?", [], SETTINGS))


def test_the_instructions_are_the_same_for_all_questions_so_that_a_server_keeps_them() -> None:
    first = build_prompt("When?", [source(1, "At noon.")], SETTINGS, language="de", profile={"a": "b"})
    second = build_prompt("Where?", [source(1, "There.")], SETTINGS)
    assert first.messages[0] == second.messages[0]
    follow_up = build_prompt("Where?", [source(1, "At noon.")], SETTINGS, history=[ChatMessage("user", "When?")])
    shared = text_of(first).partition("<profile>")[0]
    assert text_of(follow_up).startswith(shared)


def test_the_page_of_a_document_stands_behind_its_title() -> None:
    entry = replace(bare_entry(AssetRef("default", "d", "k"), Collection.TEXT), title="Report", page=4)
    for label, page in (("", "p. 4"), ("iv", "p. iv"), ("<sources>", "p. ")):
        cited = Source(1, Hit(replace(entry, page_label=label), 1.0, ()), "At noon.")
        text = text_of(build_prompt("When?", [cited], SETTINGS))
        assert f'[1] "Report, {page}' in text
        assert text.count("<sources>") == 1
    untitled = Source(1, Hit(replace(entry, title=""), 1.0, ()), "At noon.")
    assert '[1] "p. 4" (text): At noon.' in text_of(build_prompt("When?", [untitled], SETTINGS))


def test_a_title_and_a_kind_stand_before_a_source_and_a_private_address_never() -> None:
    entry = replace(bare_entry(AssetRef("default", "v", "k"), Collection.SPEECH), text="At noon.")
    for uri, label in (
        ("https://user:secret@intranet.example/a/b/tour%20one.mp4?token=secret", '[1] "tour one.mp4" (speech): '),
        ("file:///home/me/tour.mp4", '[1] "tour.mp4" (speech): '),
        ("sha256:" + "a" * 64, "[1] (speech): "),
        ("", "[1] (speech): "),
    ):
        text = text_of(build_prompt("When?", [Source(1, Hit(replace(entry, uri=uri), 1.0, ()), "At noon.")], SETTINGS))
        assert f"{label}At noon." in text
        assert "secret" not in text
        assert "home" not in text
    frame = bare_entry(AssetRef("default", "v", "k"), Collection.FRAME)
    shown = Source(1, Hit(entry, 1.0, (), Moment(0, 1, (), frame)), "At noon.")
    assert "[1] (video): At noon." in text_of(build_prompt("When?", [shown], SETTINGS))


@pytest.mark.parametrize("part", ["text", "title", "file_name", "question", "profile", "history"])
def test_hostile_text_is_data_wherever_it_comes_from(part: str) -> None:
    harmless = source(1, "The ferry leaves at noon.")
    for hostile in HOSTILE:
        bait = getattr(hostile, part, hostile.text)
        entry = harmless.hit.entry
        entry = replace(entry, title=bait) if part == "title" else entry
        entry = replace(entry, title="", uri=f"https://example.invalid/{bait}") if part == "file_name" else entry
        prompt = build_prompt(
            bait if part == "question" else "When?",
            [replace(harmless, hit=Hit(entry, 1.0, ()), text=bait if part == "text" else harmless.text)],
            SETTINGS,
            history=[ChatMessage("assistant" if part == "history" else "system", bait if part == "history" else "Hm")],
            profile={bait: bait} if part == "profile" else {"a": "b"},
        )
        assert block(prompt, "sources")[0].startswith("[1] ")
        for name in ("sources", "profile", "conversation"):
            assert len(block(prompt, name)) == 1
        text = text_of(prompt)
        assert text.count("[") == text.count("]") == 1  # the label alone
        assert text.count("<") == text.count(">") == 8
        assert not set(text) & set("\x00\x1b\u202e\u2066\u200b\u2028\U000e0050")
        assert "system:" not in [line[:7] for line in text.split("\n")]


def test_ten_hostile_sources_keep_their_facts_and_stand_on_a_line_each() -> None:
    prompt = build_prompt("What is true?", hostile_sources(), GenerateSettings(context_tokens=16_000))
    lines = block(prompt, "sources")
    assert [line.partition(" ")[0] for line in lines] == [f"[{number}]" for number in range(1, 11)]
    assert all(hostile.fact in line for hostile, line in zip(HOSTILE, lines, strict=True))
    assert CANARY in text_of(prompt)  # nothing is censored: it is a word like others


@pytest.mark.parametrize("context_tokens", [600, 700, 1_024, 4_096])
def test_the_room_is_never_exceeded_and_sources_are_left_out_from_the_end(context_tokens: int) -> None:
    settings = GenerateSettings(context_tokens=context_tokens, max_tokens=128)
    prompt = build_prompt("When?", [source(number, SENTENCE * 20) for number in range(1, 9)], settings)
    assert prompt.tokens <= context_tokens - 128
    count = len(prompt.sources)
    assert [kept.number for kept in prompt.sources] == list(range(1, count + 1))
    assert prompt.left_out == tuple(range(count + 1, 9))
    if prompt.left_out:
        assert prompt.notices == (f"{8 - count} of 8 sources did not fit into the generator's prompt.",)
    for line in block(prompt, "sources")[:count]:
        assert line.endswith("until noon.")  # a whole sentence
    assert count >= (1 if context_tokens == 600 else 2)


def test_a_short_source_leaves_its_room_to_long_ones() -> None:
    long = source(2, SENTENCE * 60)
    alone = build_prompt("When?", [source(1, "At noon."), long], SMALL)
    beside = build_prompt("When?", [source(1, SENTENCE * 60), long], SMALL)
    lengths = [len(block(prompt, "sources")[1]) for prompt in (alone, beside)]
    assert lengths[0] > 1.7 * lengths[1]


def test_weights_divide_the_room_between_live_input_conversation_and_profile() -> None:
    long = SENTENCE * 400
    history = [ChatMessage("user", SENTENCE * 3)] * 100
    profile = {f"fact {number}": SENTENCE for number in range(200)}

    def parts(**weights: float) -> list[int]:
        prompt = build_prompt("When?", [source(1, long)], GenerateSettings(**weights), history=history, profile=profile)
        assert prompt.tokens <= SETTINGS.context_tokens - SETTINGS.max_tokens
        assert len(prompt.notices) == 2
        text = text_of(prompt)
        return [
            estimate_tokens("\n".join(block(prompt, name))) if f"<{name}>" in text else 0
            for name in ("sources", "conversation", "profile")
        ]

    live, conversation, facts = parts()
    assert live + conversation + facts > 0.9 * (0.95 * (SETTINGS.context_tokens - SETTINGS.max_tokens) - 220)
    assert conversation / live == pytest.approx(0.6 / 0.8, rel=0.1)
    assert facts / live == pytest.approx(0.5 / 0.8, rel=0.1)
    assert parts(history_weight=0.0, profile_weight=0.0)[1:] == [0, 0]


def test_the_latest_messages_are_kept() -> None:
    history = [ChatMessage("user", f"Message {number}. {SENTENCE}") for number in range(100)]
    prompt = build_prompt("When?", [source(1, SENTENCE * 100)], SMALL, history=history)
    lines = block(prompt, "conversation")
    assert lines[-1].startswith("user: Message 99.")
    numbers = [int(line.split()[2].rstrip(".")) for line in lines]
    assert numbers == list(range(100 - len(lines), 100))
    assert "Earlier messages were left out of the generator's prompt." in prompt.notices


def test_a_question_that_is_a_text_is_shortened_and_sources_keep_some_room() -> None:
    prompt = build_prompt(SENTENCE * 250, [source(1, SENTENCE * 20)], SMALL)
    assert prompt.tokens <= 896
    assert prompt.notices == ("The question was shortened for the generator.",)
    assert len(prompt.sources) == 1


ANY_TEXT = st.one_of(
    st.text(max_size=300),
    st.integers(0, 80).map(lambda count: SENTENCE * count),
    st.integers(0, 300).map(lambda count: "水を飲む。" * count),
    st.sampled_from([hostile.text for hostile in HOSTILE]),
)


@given(
    st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=6),
    ANY_TEXT,
    st.lists(ANY_TEXT, max_size=4),
    st.dictionaries(st.text(max_size=20), ANY_TEXT, max_size=3),
    st.builds(
        GenerateSettings,
        context_tokens=st.integers(600, 2_000),
        max_tokens=st.just(128),
        live_weight=st.floats(0.1, 1),
        history_weight=st.floats(0, 1),
        profile_weight=st.floats(0, 1),
    ),
)
def test_no_input_exceeds_the_room_or_forges_a_part(
    sources: Sequence[tuple[str, str]],
    question: str,
    history: Sequence[str],
    profile: dict[str, str],
    settings: GenerateSettings,
) -> None:
    prompt = build_prompt(
        question,
        [source(number, text, title=title) for number, (text, title) in enumerate(sources, start=1)],
        settings,
        history=[ChatMessage("user", text) for text in history],
        profile=profile,
        language="zh",
    )
    assert prompt.tokens <= settings.context_tokens - settings.max_tokens
    assert estimate_tokens(text_of(prompt)) + estimate_tokens(str(prompt.messages[0]["content"])) <= prompt.tokens
    labels = [line.partition(" ")[0] for line in block(prompt, "sources")]
    assert labels == [f"[{kept.number}]" for kept in prompt.sources]
    assert text_of(prompt).count("[") == len(labels)
    assert len(prompt.sources) + len(prompt.left_out) == len(sources)


def with_image(number: int) -> Source:
    return replace(source(number, "At noon.", collection=Collection.IMAGE), image=b"jpeg %d" % number)


def parts_of(prompt: Prompt) -> list[Any]:
    content = prompt.messages[1]["content"]
    assert isinstance(content, list)
    return content


def test_images_go_before_the_words_as_data_urls_to_a_model_that_sees() -> None:
    settings = GenerateSettings(vision=True, max_images=2)
    prompt = build_prompt("What is it?", [with_image(1), with_image(2)], settings, images=[b"question"])
    label, image, second_label, second, words = parts_of(prompt)
    assert label == {"type": "text", "text": "Image of the question:"}
    assert image["type"] == "image_url"
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/jpeg;base64,")) == b"question"
    assert second_label["text"] == "Image of source [1]:"
    assert second["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert words["text"].startswith("<sources>\n[1] ")
    plain = build_prompt("What is it?", [with_image(1), with_image(2)], SETTINGS, images=[b"question"])
    assert isinstance(plain.messages[1]["content"], str)
    assert prompt.tokens - plain.tokens > 2 * settings.image_tokens


def test_images_leave_room_for_words() -> None:
    settings = GenerateSettings(vision=True, max_images=50, context_tokens=4_096)
    prompt = build_prompt("What?", [with_image(number) for number in range(1, 20)], settings)
    assert len(parts_of(prompt)) == 2 * 2 + 1
    assert prompt.tokens <= 4_096 - settings.max_tokens
    none = build_prompt("What?", [with_image(1)], GenerateSettings(vision=True, max_images=0))
    assert isinstance(none.messages[1]["content"], str)


def test_a_template_of_a_user_decides_what_is_put_in() -> None:
    template = parse_template("[system]\nBe short.\n[user]\nQ: {{question}}\n{{sources}}\n", "x")
    prompt = build_prompt(
        "When?", [source(1, "At noon.")], SETTINGS, profile={"a": "b"}, language="xx", template=template
    )
    assert prompt.messages[0]["content"] == "Be short."
    assert text_of(prompt) == 'Q: When?\n[1] "Herons" (text): At noon.'


def test_a_prompt_is_shown_with_its_roles_and_without_the_bytes_of_images() -> None:
    prompt = build_prompt("What?", [with_image(1)], GenerateSettings(vision=True))
    shown = shown_prompt(prompt)
    assert shown.startswith("[system]\nYou answer a question")
    assert "[user]\nImage of source [1]:\n(a JPEG, " in shown
    assert "base64" not in shown
    assert shown.rstrip().endswith("</question>")
