"""Documents of each kind among damaged and locked ones: the entries of each page, updates, deletions and reasons."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import docx
import pytest
from PIL import Image

from penstock.assembly import open_assets
from penstock.assets import sha256_of
from penstock.broker.base import Message
from penstock.errors import Reason
from penstock.records import Collection, Entry
from tests.e2e.shared.test_spine import jpeg
from tests.e2e.stack import Stack
from tests.media.documents.made import draw_picture, lines, pdf, picture
from tests.media.documents.test_books_and_mail import epub, message
from tests.media.documents.test_bounds import zeros
from tests.media.documents.test_office import presentation, rewritten, saved

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

TOPIC = "media.document"


def word_document(*pages: str) -> bytes:
    document = docx.Document()
    for number, text in enumerate(pages):
        if number:
            document.add_page_break()
        document.add_paragraph(text)
    return saved(document)


def handbook(*texts: str) -> bytes:
    """A PDF with a page for each text; the first two have one and the same image."""
    pages = [lines(text) for text in texts]

    def with_logo(number: int) -> None:
        draw = pages[number]
        pages[number] = lambda canvas: (draw(canvas), draw_picture(canvas, picture("teal")))[0]

    for number in range(min(2, len(pages))):
        with_logo(number)
    return pdf(*pages)


GOOD: Mapping[str, bytes] = {
    "handbook.pdf": handbook(
        "The reed heron waits in shallow water.",
        "It fishes at dawn and again at dusk.",
        "It sleeps at noon on the old willow.",
    ),
    "letter.docx": word_document("The letter begins here.", "The letter ends there."),
    "talk.pptx": presentation(),
    "book.epub": epub(),
    "mail.eml": message().as_bytes(),
}
REFUSED: Mapping[str, tuple[bytes, Reason, str]] = {
    "locked.pdf": (pdf(lines("secret"), encrypt="password"), Reason.UNSUPPORTED, "save it without a password"),
    "broken.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(500), Reason.CORRUPT, "damaged"),
    "broken.docx": (word_document("cut")[:2_000], Reason.CORRUPT, "truncated or damaged"),
    "bomb.docx": (rewritten(word_document("boom"), zeros(64 << 20)), Reason.TOO_LARGE, "zip bomb"),
    "blank.docx": (word_document(""), Reason.CORRUPT, "none of its 1 pages has text or images"),
    "note.md": (b"# A note\n\nOf plain words.", Reason.WRONG_TOPIC, "send it to media.text"),
    "photo.jpg": (jpeg("banana"), Reason.WRONG_TOPIC, "send it to media.image"),
}


def places(entries: Sequence[Entry], collection: Collection) -> list[tuple[int, int, str]]:
    """The page, the number of the image on it and the text of the entries of a collection."""
    return [(entry.page, entry.figure, entry.text) for entry in entries if entry.collection is collection]


def test_each_document_has_its_pages_and_each_refusal_its_reason(stack: Stack) -> None:
    messages = [Message(TOPIC, key.encode(), data) for key, data in GOOD.items()]
    messages[1:1] = [Message(TOPIC, key.encode(), data) for key, (data, _, _) in REFUSED.items()]
    messages += [Message(topic, b"stray.pdf", GOOD["handbook.pdf"]) for topic in ("media.text", "media.image")]
    stack.produce(messages)
    stack.settle()
    for key, (_, reason, words) in REFUSED.items():
        letter = stack.dead_letters(key)[-1]
        assert (letter.origin.topic, letter.reason) == (TOPIC, reason), letter.detail
        assert words in letter.detail
        assert stack.stored(key) == []
    strays = stack.dead_letters("stray.pdf")[-2:]
    assert [letter.reason for letter in strays] == [Reason.WRONG_TOPIC] * 2
    assert all("send it to media.document" in letter.detail for letter in strays)

    stored = {key: stack.stored(key) for key in GOOD}
    assert places(stored["handbook.pdf"], Collection.TEXT) == [
        (1, 0, "The reed heron waits in shallow water."),
        (2, 0, "It fishes at dawn and again at dusk."),
        (3, 0, "It sleeps at noon on the old willow."),
    ]
    assert [place[:2] for place in places(stored["handbook.pdf"], Collection.PAGE)] == [(1, 0), (1, 1), (2, 0), (3, 0)]
    assert places(stored["letter.docx"], Collection.TEXT) == [
        (1, 0, "The letter begins here."),
        (2, 0, "The letter ends there."),
    ]
    assert places(stored["letter.docx"], Collection.PAGE) == []
    assert [place[:2] for place in places(stored["talk.pptx"], Collection.TEXT)] == [(1, 0), (2, 0), (3, 0)]
    assert [place[:2] for place in places(stored["talk.pptx"], Collection.PAGE)] == [(2, 1)]
    assert places(stored["book.epub"], Collection.PAGE) == [(2, 1, "A heron")]
    labels = [(entry.page, entry.page_label) for entry in stored["book.epub"] if entry.collection is Collection.TEXT]
    assert labels == [(1, "Reeds"), (2, "Fish")]
    assert {entry.title for entry in stored["mail.eml"]} == {"Reiher über dem See"}
    assert "the herons are back." in stored["mail.eml"][0].text

    assets = open_assets(stack.settings)
    for entry in (entry for entries in stored.values() for entry in entries if entry.collection is Collection.PAGE):
        sha256 = sha256_of(entry.thumbnail)
        assert sha256 is not None
        with Image.open(io.BytesIO(assets.read(sha256)), formats=["JPEG"]) as shown:
            assert max(shown.size) == (200 if entry.figure else 800)
    stack.json("audit")  # which exits with 1 if it does not balance


@pytest.mark.exhaustive
def test_an_update_leaves_no_page_and_a_deletion_none_at_all(stack: Stack) -> None:
    key = "update.pdf"
    long = handbook(*(f"Page {number} of the first edition." for number in range(1, 33)))  # two segments
    stack.produce([Message(TOPIC, key.encode(), long)])
    stack.settle()
    first = stack.stored(key)
    assert [entry.page for entry in first if entry.collection is Collection.TEXT] == list(range(1, 33))
    assert [entry.page for entry in first if entry.collection is Collection.PAGE] == [1, 1, *range(2, 33)]
    for number, edition in ((2, "second"), (30, "third"), (1, "fourth")):
        texts = [f"Page {page} of the {edition} edition." for page in range(1, number + 1)]
        stack.produce([Message(TOPIC, key.encode(), handbook(*texts))])
        stack.settle()
        stored = stack.stored(key)
        assert [text for _, _, text in places(stored, Collection.TEXT)] == texts
        pages = [1, *range(1, number + 1)]
        assert [page for page, _, _ in places(stored, Collection.PAGE)] == pages
    stack.json("audit")
    stack.produce([Message(TOPIC, key.encode(), None)])
    stack.settle()
    assert stack.stored(key) == []
    stack.json("audit")
