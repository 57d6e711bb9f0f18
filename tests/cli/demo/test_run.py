"""Tests the check that all samples of the demo are searchable."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from penstock.cli.demo import run
from penstock.cli.demo.queries import sample_queries
from penstock.cli.demo.run import DemoRun
from penstock.config import Endpoints, load_settings
from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError
from penstock.samples.documents import sample_documents
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import sample_timed_media

PAGES = sum(len(sample.pages) for sample in sample_documents())


def demo_run(data_dir: Path, *, texts: int) -> DemoRun:
    endpoints = Endpoints(pid=1, bootstrap_servers="b", store_uri="s", ray_address="r", query_url="q")
    settings = load_settings(data_dir=data_dir)
    return DemoRun(settings, endpoints, threading.Event(), images=10, texts=texts, queries=())


def index_with(monkeypatch: pytest.MonkeyPatch, *, texts: int) -> None:
    samples = sample_timed_media()
    entries = {
        "image": 10,
        "text": texts + PAGES,
        "page": 4,
        "frame": sum(len(sample.scenes) for sample in samples),
        "speech": sum(len(sample.sentences) for sample in samples),
    }
    monkeypatch.setattr(run, "get_status", lambda *_: {"entries": entries})


def test_a_complete_index_is_reported_by_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index_with(monkeypatch, texts=5)
    demo_run(tmp_path, texts=5)._check_counts()
    shown = capsys.readouterr().err
    assert f"10 images, {5 + PAGES} passages of text" in shown
    assert "4 pages and images of documents" in shown


def test_missing_entries_are_an_error_with_the_command_that_shows_dead_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_with(monkeypatch, texts=4)
    with pytest.raises(UnavailableError, match=f"{5 + PAGES} entries of text.* --data-dir {tmp_path} deadletters list"):
        demo_run(tmp_path, texts=5)._check_counts()


def test_no_more_texts_are_expected_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_with(monkeypatch, texts=len(sample_texts()))
    demo_run(tmp_path, texts=10_000)._check_counts()


def result_of(*hits: dict[str, object], nothing_found: bool = False) -> dict[str, object]:
    return {"hits": list(hits), "nothing_found": nothing_found}


def test_an_unanswerable_query_is_answered_rightly_by_saying_so() -> None:
    query = next(query for query in sample_queries(1, 1, run.Abilities(False, False)) if query.is_right is None)
    assert run._judge(query, result_of({"relevance": 0.02}, nothing_found=True))[0] is True
    assert run._judge(query, result_of({"relevance": 0.9}))[0] is False
    assert run._judge(query, result_of({"relevance": None}))[0] is None


def test_only_a_profile_with_another_image_encoder_is_asked_for_photographs() -> None:
    abilities = run.abilities_of(load_profile("reference"))
    assert not abilities.photographs
    assert not abilities.multilingual
    assert not run.abilities_of(load_profile("shelf:joint=reference,passage=minilm-use")).photographs
    assert run.abilities_of(load_profile("shelf:joint=efficientnet,passage=minilm-use")).photographs
    assert run.abilities_of(load_profile("gpu")) == run.Abilities(photographs=True, multilingual=True)
