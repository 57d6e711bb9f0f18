from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.word_errors import bench_word_errors, count_errors, english_normaliser
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError
from penstock.samples.timed_media import sample_timed_media


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b", "a b c", 1),
        ("a b", "", 2),
        ("", "a", 1),
    ],
)
def test_errors_are_substituted_deleted_and_inserted_words(reference: str, hypothesis: str, errors: int) -> None:
    assert count_errors(reference.split(), hypothesis.split()) == errors


def test_case_punctuation_and_the_writing_of_numbers_do_not_count_and_other_words_do() -> None:
    normalise = english_normaliser()
    assert normalise("Press one, or twenty-three!").split() == normalise("press 1 or 23").split()
    assert normalise("you can't").split() == normalise("You cannot").split() or normalise("can't") == "can not"
    assert normalise("press two") != normalise("press three")
    assert normalise("the pound key") != normalise("the town key")


def test_shipped_clips_have_the_words_that_are_known_of_them(tmp_path: Path) -> None:
    samples = [sample for sample in sample_timed_media() if sample.key.startswith("note-")][:2]
    rows = []
    for sample in samples:
        shutil.copy(sample.file, tmp_path / sample.file.name)
        text = " ".join(sentence.label for sentence in sample.sentences)
        rows.append({"_id": sample.key, "title": "", "text": text, "audio": sample.file.name})
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "a"}) + "\n")
    (tmp_path / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\t{samples[0].key}\t1\n")
    figures = bench_word_errors(load_profile("reference"), tmp_path, limit=None, threads=1)
    assert figures["recordings"] == 2
    assert figures["word_error_rate"] <= 0.1
    assert figures["languages"] == {"en": 2}
    assert figures["times_real_time_by_cpu"] > 0


def test_a_set_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "a", "title": "", "text": "b"}) + "\n")
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "a"}) + "\n")
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    with pytest.raises(ConfigError, match="has no recordings"):
        bench_word_errors(load_profile("reference"), tmp_path, limit=None, threads=1)
