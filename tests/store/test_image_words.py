from __future__ import annotations

import numpy as np

from penstock.records import Collection, Decoded, Encoded, ImageText, ImageTexts, PendingEntry
from penstock.store.image_words import with_words
from tests.ingest.builders import event


def pending(key: str, *words: tuple[str, int]) -> PendingEntry:
    return PendingEntry(event(0, key), Collection.IMAGE, 0, "image/png", "asset:x", words=words)


def texts_of(entries: tuple[PendingEntry, ...], *results: Encoded | ImageTexts) -> list[str]:
    decoded, _ = with_words(Decoded((), (), entries, ()), results)
    return [entry.text for entry in decoded.pending]


def test_words_of_several_models_are_joined_in_their_order() -> None:
    entries = (pending("a", ("ocr", 0), ("caption", 1)), pending("b", ("ocr", 1), ("caption", 0)))
    ocr = ImageTexts("ocr", 0, (ImageText("EXIT"), ImageText("")))
    caption = ImageTexts("caption", 0, (ImageText("a dog"), ImageText("a green sign")))
    assert texts_of(entries, ocr, caption) == ["EXIT\na green sign", "a dog"]


def test_rows_count_from_the_start_of_each_result_and_missing_ones_have_no_words() -> None:
    entries = tuple(pending(f"{row}", ("ocr", row)) for row in range(4))
    first, last = ImageTexts("ocr", 0, (ImageText("zero"),)), ImageTexts("ocr", 2, (ImageText("two"), ImageText("x")))
    assert texts_of(entries, first, last) == ["zero", "", "two", "x"]


def test_embeddings_pass_and_texts_stay_without_models_of_words() -> None:
    vectors = Encoded("joint.image", np.zeros((1, 4), np.float32))
    decoded = Decoded((), (), (PendingEntry(event(0), Collection.TEXT, 0, "text/plain", "u", text="own"),), ())
    assert with_words(decoded, [vectors]) == (decoded, [vectors])
    words = ImageTexts("ocr", 0, (ImageText("other"),))
    assert [entry.text for entry in with_words(decoded, [words])[0].pending] == ["own"]
