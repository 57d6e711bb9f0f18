"""Decodes documents segment by segment, mostly with scripted pages."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BadInputError, Reason, UnavailableError
from penstock.media.documents.reader import read_pages
from penstock.media.documents.types import DocumentPage, Figure
from penstock.media.segments import documents as documents_module
from penstock.media.text.passages import normalize_text
from penstock.records import Collection, Event, FetchedMedia, Field, MediaPosition, Rejected
from tests.media.documents.made import draw_picture, lines, pdf, picture
from tests.media.segments.document_harness import (
    OCR_SIDE_PX,
    DocumentHarness,
    figures,
    page,
    pixels,
    size_of,
)

HERON = "The heron stands in the shallow water of the river and waits for a fish."
TWO_PASSAGES = f"{HERON} Then it flies away over the old bridge and the mill to its nest in the tall trees."


@pytest.fixture
def harness() -> DocumentHarness:
    return DocumentHarness()


# --- entries ---------------------------------------------------------------------------------------------------------


def test_a_short_document_is_one_segment_of_passages_with_page_and_characters(harness: DocumentHarness) -> None:
    event = harness.add(page(1, HERON, label="iv"), page(2), page(3, TWO_PASSAGES))
    decoded, inputs = harness.decode(event)
    assert (decoded.checkpoints, decoded.rejected) == ((), ())
    entries = decoded.pending
    assert [(entry.collection, entry.part, entry.page, entry.page_label, entry.figure) for entry in entries] == [
        (Collection.TEXT, 0, 1, "iv", 0),
        (Collection.TEXT, 1, 3, "", 0),
        (Collection.TEXT, 2, 3, "", 0),
    ]
    text = f"{HERON}\n\n\n\n{TWO_PASSAGES}"  # two characters between pages
    assert [(entry.start_char, entry.end_char) for entry in entries] == [(0, 72), (76, 148), (149, len(text))]
    assert all(text[entry.start_char : entry.end_char] == entry.text for entry in entries)
    assert inputs["passage.text"].texts == inputs["joint.text"].texts == (HERON, entries[2].text)
    assert [entry.vectors for entry in entries] == [
        ((Field.PASSAGE, "passage.text", row), (Field.JOINT, "joint.text", row)) for row in (0, 0, 1)
    ]
    assert {(entry.start_ms, entry.end_ms, entry.thumbnail, entry.words) for entry in entries} == {(0, 0, "", ())}
    assert [indexed.payload for indexed in decoded.indexable] == [replace(event.payload, uri="asset:book")]  # type: ignore[type-var]


def test_images_of_a_page_are_entries_with_thumbnails_behind_its_passages(harness: DocumentHarness) -> None:
    shown = pixels(200, 900, 1_200)
    figure = Figure(2, pixels(50), "A heron  on one leg")
    event = harness.add(page(1, HERON, image=shown, figures=(Figure(1, pixels(10)), figure)), page(2, image=shown))
    decoded, inputs = harness.decode(event)
    images = [entry for entry in decoded.pending if entry.collection is Collection.PAGE]
    assert [(entry.part, entry.page, entry.figure, entry.text) for entry in images] == [
        (0, 1, 0, ""),
        (1, 1, 1, ""),
        (2, 1, 2, "A heron on one leg"),
        (3, 2, 0, ""),
    ]
    assert [entry.vectors for entry in images] == [((Field.JOINT, "joint.image", row),) for row in (0, 1, 2, 0)]
    joint = inputs["joint.image"].pixels
    assert joint is not None
    assert joint.shape == (3, 32, 32, 3)
    assert [int(joint[row].mean().round()) for row in range(3)] == [200, 10, 50]
    assert [size_of(harness.thumbnails[entry.thumbnail]) for entry in images] == [
        (600, 800),
        (120, 80),
        (120, 80),
        (600, 800),
    ]
    assert images[0].thumbnail == images[3].thumbnail


def test_the_title_of_a_document_is_taken_where_the_event_has_none(harness: DocumentHarness) -> None:
    harness.reader.title, harness.reader.author = "On herons", "A. Wader"
    first, second = (harness.add(page(1, HERON), key=key, title=title) for key, title in (("a", ""), ("b", "Mine")))
    second = replace(second, attributes_json='{"author": "B. Rush", "year": 2029}')
    decoded, _ = harness.decode(first, second)
    assert [(event.title, event.has_media_title) for event in decoded.indexable] == [
        ("On herons", True),
        ("Mine", False),
    ]
    assert [json.loads(entry.attributes_json) for entry in decoded.pending] == [
        {"page_count": 1, "author": "A. Wader"},
        {"page_count": 1, "author": "B. Rush", "year": 2029},
    ]


# --- images that are read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_scan"), [("", True), ("— 12 —", True), ("a" * 19, True), ("a" * 20, False), (HERON, False)]
)
def test_the_image_of_a_page_is_read_where_the_page_has_hardly_any_letters(text: str, is_scan: bool) -> None:
    harness = DocumentHarness()
    harness.image_texts = {"ocr": OCR_SIDE_PX, "caption": 50}
    harness.restart()
    decoded, inputs = harness.decode(harness.add(page(1, text, image=pixels(200, 300, 400))))
    (image,) = (entry for entry in decoded.pending if entry.collection is Collection.PAGE)
    assert image.words == ((("ocr", 0), ("caption", 0)) if is_scan else ())
    assert [entry.text for entry in decoded.pending if entry.collection is Collection.TEXT] == ([text] if text else [])
    if is_scan:
        assert [image.shape for image in inputs["ocr"].images] == [(200, 150, 3)]
        assert [image.shape for image in inputs["caption"].images] == [(50, 38, 3)]
    else:
        assert inputs.keys() == {"passage.text", "joint.text", "joint.image"}


def test_images_on_a_page_of_text_are_read_and_those_of_a_scan_are_not() -> None:
    harness = DocumentHarness()
    harness.image_texts = {"ocr": OCR_SIDE_PX}
    harness.restart()
    event = harness.add(
        page(1, HERON, image=pixels(1), figures=figures(2)),
        page(2, image=pixels(3), figures=figures(4)),  # the scan itself once more
        page(3, image=pixels(5), figures=figures(6, 7)),
        page(4, figures=figures(8)),  # of a format without images of pages
    )
    decoded, inputs = harness.decode(event)
    decoded_more, inputs_more = harness.decode(event, checkpoints=decoded.checkpoints)
    read = [
        (entry.page, entry.figure, bool(entry.words))
        for entry in (*decoded.pending, *decoded_more.pending)
        if entry.collection is Collection.PAGE
    ]
    assert read == [
        (1, 0, False),
        (1, 1, True),
        (2, 0, True),
        (3, 0, True),
        (3, 1, False),
        (3, 2, False),
        (4, 1, True),
    ]
    assert [image[0, 0, 0] for image in (*inputs["ocr"].images, *inputs_more["ocr"].images)] == [2, 3, 5, 8]


def test_an_image_on_many_pages_is_an_entry_of_the_first(harness: DocumentHarness) -> None:
    event = harness.add(*(page(number, HERON, figures=figures(9, number)) for number in range(20, 28)))
    harness.reader.documents[harness.media[event.asset.id].data] = [
        page(number, HERON, figures=figures(9, 100 + number)) for number in range(1, 9)
    ]
    entries, checkpoints = harness.decode_all(event, harness.restart)
    assert len(checkpoints) == 3
    images = [(entry.page, entry.figure) for entry in entries if entry.collection is Collection.PAGE]
    assert images == [(1, 1), *((number, 2) for number in range(1, 9))]
    assert len(checkpoints[-1].figures) == 9
    assert all(len(key) == 12 for key in checkpoints[-1].figures)


def test_images_beyond_those_that_are_known_are_indexed_again(
    harness: DocumentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "MAX_KNOWN_FIGURES", 2)
    event = harness.add(*(page(number, figures=figures(1, 2, 3)) for number in (1, 2)))
    entries, _ = harness.decode_all(event)
    assert [(entry.page, entry.figure) for entry in entries] == [(1, 1), (1, 2), (1, 3), (2, 3)]


# --- segments --------------------------------------------------------------------------------------------------------


def test_a_long_document_continues_from_its_checkpoints_in_other_workers(harness: DocumentHarness) -> None:
    pages = [page(number, f"{HERON} {number}", image=pixels(number)) for number in range(1, 8)]
    event = harness.add(*pages)
    entries, checkpoints = harness.decode_all(event, harness.restart)
    assert harness.fetches == ["book"] * 3
    assert harness.reader.calls == [(1, 3), (4, 3), (7, 3)]
    chars = len(HERON) + 2 + 2  # a blank and the number, and two between pages
    assert [(checkpoint.position, checkpoint.start, checkpoint.finished) for checkpoint in checkpoints] == [
        (MediaPosition(page=3, char=3 * chars), MediaPosition(), False),
        (MediaPosition(page=6, char=6 * chars), MediaPosition(page=3, char=3 * chars), False),
        (MediaPosition(page=7, char=7 * chars), MediaPosition(page=6, char=6 * chars), True),
    ]
    assert [checkpoint.counts for checkpoint in checkpoints] == [
        {Collection.TEXT: count, Collection.PAGE: count} for count in (3, 6, 7)
    ]
    texts = [entry for entry in entries if entry.collection is Collection.TEXT]
    assert [(entry.part, entry.page, entry.start_char) for entry in texts] == [
        (number - 1, number, (number - 1) * chars) for number in range(1, 8)
    ]
    assert [(entry.part, entry.page) for entry in entries if entry.collection is Collection.PAGE] == [
        (number - 1, number) for number in range(1, 8)
    ]


def test_one_worker_fetches_a_long_document_once(harness: DocumentHarness) -> None:
    event = harness.add(*(page(number, HERON) for number in range(1, 8)))
    harness.decode_all(event)
    assert harness.fetches == ["book"]


def test_a_segment_that_is_decoded_again_has_the_same_entries(harness: DocumentHarness) -> None:
    event = harness.add(*(page(number, HERON, figures=figures(1, number)) for number in range(2, 9)))
    first, _ = harness.decode(event)
    (checkpoint,) = first.checkpoints
    second, _ = harness.decode(event, checkpoints=[checkpoint])
    harness.restart()
    again, _ = harness.decode(event, checkpoints=[checkpoint])
    assert second.pending == again.pending
    assert second.checkpoints == again.checkpoints


def test_a_checkpoint_of_other_settings_is_ignored(harness: DocumentHarness) -> None:
    event = harness.add(*(page(number, HERON) for number in range(1, 8)))
    decoded, _ = harness.decode(event)
    for change in ("documents", "text", "image_texts"):
        other = DocumentHarness()
        other.reader, other.media = harness.reader, harness.media
        if change == "documents":
            other.documents = other.documents.model_copy(update={"page_px": 512})
        elif change == "text":
            other.text = other.text.model_copy(update={"max_passage_tokens": 32})
        else:
            other.image_texts = {"ocr": OCR_SIDE_PX}
        other.restart()
        again, _ = other.decode(event, checkpoints=decoded.checkpoints)
        assert [entry.page for entry in again.pending] == [1, 2, 3]
        assert again.checkpoints[0].start == MediaPosition()
        assert again.checkpoints[0].settings_hash != decoded.checkpoints[0].settings_hash


def test_changed_bytes_at_the_same_address_start_again(
    harness: DocumentHarness, caplog: pytest.LogCaptureFixture
) -> None:
    event = harness.add(*(page(number, HERON) for number in range(1, 8)))
    decoded, _ = harness.decode(event)
    harness.restart()
    harness.replace_bytes(event, *(page(number, "Another text altogether.") for number in range(1, 6)))
    again, _ = harness.decode(event, checkpoints=decoded.checkpoints)
    assert [(entry.part, entry.page, entry.text) for entry in again.pending] == [
        (part, part + 1, "Another text altogether.") for part in range(3)
    ]
    assert again.checkpoints[0].start == MediaPosition()
    assert again.checkpoints[0].media_sha256 == "changed"
    assert "have changed since its checkpoint; it starts again" in caplog.text


def test_a_document_whose_pages_take_long_continues_where_the_reader_stopped(harness: DocumentHarness) -> None:
    event = harness.add(*(page(number, HERON) for number in range(1, 6)))
    harness.reader.short = iter((2, 1))
    entries, checkpoints = harness.decode_all(event)
    assert harness.reader.calls == [(1, 3), (3, 3), (4, 3)]
    assert [checkpoint.position.page for checkpoint in checkpoints] == [2, 3, 5]
    assert [entry.page for entry in entries] == [1, 2, 3, 4, 5]


def test_a_worker_that_is_late_reads_a_page_of_each_further_document(harness: DocumentHarness) -> None:
    ticks = itertools.count(step=15.0)
    harness.clock = lambda: next(ticks)
    harness.restart()
    events = [harness.add(*(page(number, HERON) for number in range(1, 8)), key=key) for key in "abc"]
    decoded, _ = harness.decode(*events)
    assert harness.reader.calls == [(1, 3), (1, 1), (1, 1)]
    assert [checkpoint.position.page for checkpoint in decoded.checkpoints] == [3, 1, 1]


def test_a_batch_ends_where_its_images_that_are_read_take_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    image = pixels(0, 200, 200)
    monkeypatch.setattr(documents_module, "_MAX_WHOLE_IMAGE_BYTES", image.nbytes + 1)
    harness = DocumentHarness(segment_pages=5)
    harness.image_texts = {"ocr": OCR_SIDE_PX}
    harness.restart()
    scans = [page(number, image=pixels(number, 200, 200)) for number in range(1, 6)]
    events = [harness.add(*scans, key=key) for key in "ab"]
    decoded, inputs = harness.decode(*events)
    assert [checkpoint.position.page for checkpoint in decoded.checkpoints] == [2, 1]
    assert harness.reader.calls == [(1, 5), (1, 1)]
    assert len(inputs["ocr"].images) == 2  # both documents begin alike
    entries, checkpoints = harness.decode_all(events[0])
    assert [checkpoint.position.page for checkpoint in checkpoints] == [2, 4, 5]
    assert [entry.page for entry in entries] == [1, 2, 3, 4, 5]


@given(st.data())
def test_any_division_into_segments_gives_the_same_entries(data: st.DataObject) -> None:
    texts = st.sampled_from(["", "Stamp", HERON, TWO_PASSAGES, "Fish. " * 30, "  A \n\n heading  "])
    shades = st.lists(st.integers(1, 4), max_size=3, unique=True)
    drawn = data.draw(st.lists(st.tuples(texts, shades, st.booleans()), min_size=1, max_size=9))
    pages = [
        page(number, text, image=pixels(50 + number) if has_image else None, figures=figures(*on_page), label="x")
        for number, (text, on_page, has_image) in enumerate(drawn, 1)
    ]
    if not any(normalize_text(text) or on_page or has_image for text, on_page, has_image in drawn):
        return
    results = []
    for segment_pages, short in ((100, []), (4, data.draw(st.lists(st.integers(1, 3), max_size=9)))):
        harness = DocumentHarness(segment_pages=segment_pages)
        harness.image_texts = {"ocr": OCR_SIDE_PX}
        harness.reader.short = iter(short)
        harness.restart()
        moves = data.draw(st.lists(st.booleans(), min_size=10, max_size=10))
        moved = iter(moves)

        def start(harness: DocumentHarness = harness, moved: Iterator[bool] = moved) -> None:
            if next(moved, False):
                harness.restart()

        entries, checkpoints = harness.decode_all(harness.add(*pages), start)
        assert all(later.start == earlier.position for earlier, later in itertools.pairwise(checkpoints))
        results.append([replace(entry, thumbnail="") for entry in entries])
        for collection in (Collection.TEXT, Collection.PAGE):
            parts = [entry.part for entry in entries if entry.collection is collection]
            assert parts == list(range(len(parts)))
            assert not checkpoints or checkpoints[-1].counts.get(collection, 0) == len(parts)
    assert results[0] == results[1]


# --- bytes between two segments --------------------------------------------------------------------------------------


def test_the_bytes_of_so_many_documents_are_kept_between_segments() -> None:
    harness = DocumentHarness(max_open=2)
    events = [harness.add(*(page(number, HERON) for number in range(1, 8)), key=key) for key in "abc"]
    decoded, _ = harness.decode(*events)
    harness.fetches.clear()
    harness.decode(*reversed(events), checkpoints=decoded.checkpoints)
    assert harness.fetches == ["a"]


def test_the_bytes_that_are_kept_between_segments_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "_MAX_KEPT_BYTES", 25)
    harness = DocumentHarness(max_open=9)
    pages = [page(number, HERON) for number in range(1, 12)]
    small = [harness.add(*pages, key=key, data=f"{key} {'x' * 10}".encode()) for key in "abc"]
    decoded, _ = harness.decode(*small)
    harness.fetches.clear()
    decoded, _ = harness.decode(*small, checkpoints=decoded.checkpoints)
    assert harness.fetches == ["a"]
    huge = harness.add(*pages, key="huge", data=b"x" * 100)
    more, _ = harness.decode(huge)
    harness.fetches.clear()
    harness.decode(huge, *small, checkpoints=(*more.checkpoints, *decoded.checkpoints))
    assert harness.fetches == ["a", "b", "c"]


def test_a_worker_of_short_media_keeps_no_bytes(harness: DocumentHarness) -> None:
    event = harness.add(*(page(number, HERON) for number in range(1, 8)))
    decoded, _ = harness.decode(event, keep_open=False)
    harness.decode(event, checkpoints=decoded.checkpoints, keep_open=False)
    assert harness.fetches == ["book", "book"]


# --- rejections ------------------------------------------------------------------------------------------------------


def test_a_damaged_page_is_logged_and_the_others_are_indexed(
    harness: DocumentHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.reader.notes = ("macros were not read",)
    event = harness.add(page(1, HERON), page(2, damage="its parser crashed by signal 11"), page(3, HERON))
    with caplog.at_level(logging.WARNING):
        decoded, _ = harness.decode(event)
    assert [entry.page for entry in decoded.pending] == [1, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "page 2 of default/media.document/book: its parser crashed by signal 11",
        "default/media.document/book: macros were not read",
    ]


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_a_document_without_text_and_images_is_rejected_of_any_length(harness: DocumentHarness, count: int) -> None:
    event = harness.add(*(page(number, " \n ") for number in range(1, count + 1)))
    decoded, _ = harness.decode(event)
    while decoded.checkpoints:
        assert not decoded.rejected
        assert not decoded.pending
        decoded, _ = harness.decode(event, checkpoints=decoded.checkpoints)
    assert decoded.rejected == (
        Rejected(
            event.position,
            "decode",
            Reason.CORRUPT,
            f"application/pdf: none of its {count} pages has text or images",
        ),
    )
    assert not decoded.indexable


def test_a_document_with_a_text_on_its_first_page_alone_is_indexed(harness: DocumentHarness) -> None:
    event = harness.add(page(1, HERON), *(page(number) for number in range(2, 8)))
    entries, checkpoints = harness.decode_all(event)
    assert [entry.page for entry in entries] == [1]
    assert [checkpoint.counts for checkpoint in checkpoints] == [{Collection.TEXT: 1}] * 3


def test_a_password_and_a_type_without_reader_are_said() -> None:
    harness = DocumentHarness()
    harness.reader = read_pages
    harness.restart()
    locked = harness.add_bytes(pdf(lines("secret"), encrypt="password"), "application/pdf", "locked")
    office = harness.add_bytes(b"\xd0\xcf\x11\xe0", "application/encrypted", "office")
    broken = harness.add_bytes(b"%PDF-1.7\nnothing of it", "application/pdf", "broken")
    good = harness.add_bytes(
        pdf(lines("A heron."), lambda canvas: draw_picture(canvas, picture("red"))), "application/pdf"
    )
    tombstone = replace(locked, payload=None, position=replace(locked.position, offset=99))
    decoded, _ = harness.decode(locked, office, broken, good, tombstone)
    assert [(rejection.position, rejection.reason) for rejection in decoded.rejected] == [
        (locked.position, Reason.UNSUPPORTED),
        (office.position, Reason.UNSUPPORTED),
        (broken.position, Reason.CORRUPT),
    ]
    details = [rejection.detail for rejection in decoded.rejected]
    assert details[0] == "a PDF that is encrypted: save it without a password and send it again"
    assert details[1] == "an Office document that is encrypted: save it without a password and send it again"
    assert decoded.tombstones == (tombstone,)
    assert [event.asset for event in decoded.indexable] == [good.asset]
    assert [(entry.collection, entry.page, entry.figure, entry.text) for entry in decoded.pending] == [
        (Collection.TEXT, 1, 0, "A heron."),
        (Collection.PAGE, 1, 0, ""),
        (Collection.PAGE, 2, 0, ""),
    ]


def test_a_rejection_of_fetch_is_passed_through(harness: DocumentHarness) -> None:
    event = harness.add(page(1, HERON))
    rejection = Rejected(event.position, "fetch", Reason.FORBIDDEN, "not that host")
    decoded, _ = harness.decoder.decode([event], (), lambda _: rejection)
    assert decoded.rejected == (rejection,)


def test_a_refusal_in_a_later_segment_rejects_the_document(harness: DocumentHarness) -> None:
    event = harness.add(*(page(number, HERON) for number in range(1, 8)))
    decoded, _ = harness.decode(event)

    def refuse(*_: object, **__: object) -> None:
        raise BadInputError(Reason.CRASHES_WORKER, "pages of this PDF end its parser")

    harness.reader = refuse
    harness.restart()
    again, _ = harness.decode(event, checkpoints=decoded.checkpoints)
    detail = "pages of this PDF end its parser"
    assert again.rejected == (Rejected(event.position, "decode", Reason.CRASHES_WORKER, detail),)
    assert (again.indexable, again.pending, again.checkpoints) == ((), (), ())


def test_an_unavailable_dependency_stops_the_batch(harness: DocumentHarness) -> None:
    def unavailable(_: Event) -> FetchedMedia:
        raise UnavailableError("unavailable")

    with pytest.raises(UnavailableError):
        harness.decoder.decode([harness.add(page(1, HERON))], (), unavailable)


def test_an_unexpected_error_in_a_page_rejects_its_document_alone(harness: DocumentHarness) -> None:
    odd = DocumentPage(1, "", HERON, image=np.zeros((0, 0, 3), dtype=np.uint8))
    bad, good = harness.add(odd, key="bad"), harness.add(page(1, HERON), key="good")
    decoded, _ = harness.decode(bad, good)
    assert [(rejection.position, rejection.reason) for rejection in decoded.rejected] == [
        (bad.position, Reason.CORRUPT)
    ]
    assert [entry.event.asset.key for entry in decoded.pending] == ["good"]
