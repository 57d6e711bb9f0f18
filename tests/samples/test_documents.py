"""Tests that the sample documents have the sentences and images of their manifest, and are what their maker makes."""

from __future__ import annotations

import pytest

from penstock.media.documents.types import document_type
from penstock.media.sniff import sniff
from penstock.media.types.base import Sniffed
from penstock.records import Modality
from penstock.samples import load_concepts
from penstock.samples.documents import SampleDocument, sample_documents
from tests.media.documents.made import read, words
from tools import sample_documents as maker

SAMPLES = {sample.key: sample for sample in sample_documents()}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_file_has_the_pages_of_the_manifest(sample: SampleDocument) -> None:
    data = sample.file.read_bytes()
    assert sniff(data, declared=None) == Sniffed(sample.mime, Modality.DOCUMENT)
    pages = read(data, document_type(sample.mime))
    assert (pages.title, pages.page_count, pages.notes) == (sample.title, len(sample.pages), ())
    for page, sentences in zip(pages.pages, sample.pages, strict=True):
        assert all(sentence in words(page) for sentence in sentences)
        assert len(page.figures) == (page.number in sample.figures)
        assert (page.image is not None) == sample.page_images


def test_no_sentence_stands_on_two_pages() -> None:
    texts = [text for sample in SAMPLES.values() for page in sample.pages for text in page]
    sentences = [text for text in texts if len(text.split()) > 2]
    assert len(set(sentences)) == len(sentences) > 15


def test_images_show_concepts_that_the_reference_models_know() -> None:
    assert {concept for sample in SAMPLES.values() for concept in sample.figures.values()} <= {
        concept.id for concept in load_concepts()
    }


def test_the_maker_makes_the_same_text_again() -> None:
    again_by_key = {
        "bicycle-handbook": maker.make_pdf(maker.HANDBOOK_TITLE, maker.HANDBOOK),
        "garden-minutes": maker.make_docx(maker.MINUTES_TITLE, maker.MINUTES),
        "seed-list": maker.make_xlsx(maker.SEEDS_TITLE, maker.SEEDS),
    }
    assert again_by_key.keys() == SAMPLES.keys()
    for key, data in again_by_key.items():
        kind = document_type(SAMPLES[key].mime)
        again, shipped = read(data, kind), read(SAMPLES[key].file.read_bytes(), kind)
        assert [page.text for page in again.pages] == [page.text for page in shipped.pages]
        assert (again.title, again.author) == (shipped.title, shipped.author)


def test_files_are_made_with_the_same_bytes_each_time() -> None:
    assert maker.make_xlsx("t", maker.SEEDS) == maker.make_xlsx("t", maker.SEEDS)
    assert maker.make_pdf("t", maker.HANDBOOK) == maker.make_pdf("t", maker.HANDBOOK)
    assert maker.make_docx("t", maker.MINUTES) == maker.make_docx("t", maker.MINUTES)
