"""Reading of evaluation sets: groups, splits, and one-line errors with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.evaluation_set import TWO_SPLITS, reverse


def write_set(
    folder: Path,
    corpus: list[dict[str, str]],
    queries: list[dict[str, str]],
    qrels: list[tuple[str, str, int]],
    split: dict[str, str] | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for row in corpus:
        for name in ("image", "audio"):
            if name in row and not (folder / row[name]).exists():
                (folder / row[name]).write_bytes(row["_id"].encode())
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus), "utf-8")
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries), "utf-8")
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in qrels)]
    (folder / "qrels.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    if split is not None:
        (folder / "split.json").write_text(json.dumps(split), "utf-8")
    return folder


def _small(folder: Path, **changes: object) -> Path:
    parts: dict[str, object] = {
        "corpus": [
            {"_id": "a", "text": "an apple"},
            {"_id": "b", "title": "Pear", "image": "b.png", "style": "photo"},
            {"_id": "c", "title": "pear.", "image": "c.png", "style": "drawn"},
            {"_id": "d", "text": "An apple!"},
        ],
        "queries": [
            {"_id": "q1", "text": "apple", "kind": "name"},
            {"_id": "q2", "text": "Birne", "lang": "de", "kind": "name"},
            {"_id": "q3", "text": "fruit", "kind": "class"},
            {"_id": "q4", "text": "nothing is relevant", "kind": "class"},
        ],
        "qrels": [("q1", "a", 1), ("q2", "b", 2), ("q3", "c", 1), ("q3", "a", 1), ("q4", "a", 0)],
        "split": {"a": "train", "b": "test", "c": "test", "d": "dev"},
    }
    return write_set(folder, **(parts | changes))  # type: ignore[arg-type]


def test_a_set_is_read_with_its_relevant_documents_by_row(tmp_path: Path) -> None:
    dataset = read_set(_small(tmp_path / "fruit"))
    assert dataset.name == "fruit"
    assert [document.modality for document in dataset.documents] == ["text", "image", "image", "text"]
    assert [query.id for query in dataset.queries] == ["q1", "q2", "q3"]  # q4 has no relevant document
    assert [rows.tolist() for rows in dataset.judgements.rows()] == [[0], [1], [0, 2]]
    assert dataset.judgements.gains.tolist() == [1.0, 2.0, 1.0, 1.0]


def test_a_query_is_of_the_split_that_all_its_documents_are_in(tmp_path: Path) -> None:
    dataset = read_set(_small(tmp_path))
    assert dataset.query_splits.tolist() == ["train", "test", TWO_SPLITS]
    assert dataset.select(split="test").tolist() == [1]
    assert dataset.select(split="all").tolist() == [0, 1, 2]
    assert dataset.select(split="all", lang="en", kind="name").tolist() == [0]
    assert dataset.select(split="all", style="photo").tolist() == [1]
    with pytest.raises(UsageError, match="no split 'later'; use one of train, dev, test, all"):
        dataset.select(split="later")


def test_near_duplicates_are_one_group_and_are_counted_across_splits(tmp_path: Path) -> None:
    dataset = read_set(_small(tmp_path))
    groups = dataset.document_groups
    assert groups[0] == groups[3]  # the same words
    assert groups[1] == groups[2]  # the same title
    assert len(set(groups.tolist())) == 2
    assert dataset.divided_groups == 1  # "an apple" is in train and in dev
    assert len(set(dataset.query_groups.tolist())) == 1  # q3 is relevant to both


def test_images_of_equal_bytes_are_one_group(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"same")
    (tmp_path / "c.png").write_bytes(b"same")
    corpus = [{"_id": "b", "title": "x", "image": "b.png"}, {"_id": "c", "title": "y", "image": "c.png"}]
    dataset = read_set(_small(tmp_path, corpus=corpus, qrels=[("q1", "b", 1)], split=None))
    assert dataset.document_groups.tolist() == [0, 0]
    assert dataset.split_names() == ("all",)


def test_the_hash_covers_the_bytes_of_the_media(tmp_path: Path) -> None:
    before = read_set(_small(tmp_path)).hash
    assert read_set(_small(tmp_path)).hash == before
    (tmp_path / "b.png").write_bytes(b"another image")
    assert read_set(tmp_path).hash != before


def test_reversed_images_search_the_texts_of_their_queries(tmp_path: Path) -> None:
    dataset = reverse(read_set(_small(tmp_path)))
    assert [document.text for document in dataset.documents] == ["Birne", "fruit"]
    assert [query.id for query in dataset.queries] == ["b", "c"]
    assert dataset.queries[0].image == tmp_path / "b.png"
    assert [rows.tolist() for rows in dataset.judgements.rows()] == [[0], [1]]
    assert dataset.query_splits.tolist() == ["test", TWO_SPLITS]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "corpus.jsonl",
            '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}',
            r"corpus.jsonl line 2: `_id` 'a' occurs",
        ),
        ("corpus.jsonl", '{"_id": "a"}', r"corpus.jsonl line 1: document 'a' has none of text, image and audio"),
        ("corpus.jsonl", '{"_id": "a", "image": "no.png"}', r"corpus.jsonl line 1: there is no image file no.png"),
        ("corpus.jsonl", '{"_id": "a", "text": 3}', r"corpus.jsonl line 1: `text` must be a text, got 3"),
        ("corpus.jsonl", "[]", r"corpus.jsonl line 1: expected a JSON object"),
        ("queries.jsonl", '\n{"_id": "q1"', r"queries.jsonl line 2: not JSON"),
        ("queries.jsonl", '{"_id": "q1", "text": " "}', r"queries.jsonl line 1: query 'q1' needs a text or an image"),
        (
            "qrels.tsv",
            "query-id\tcorpus-id\tscore\nq1\ta",
            r"qrels.tsv line 2: expected query-id, corpus-id and a number",
        ),
        ("qrels.tsv", "q9\ta\t1", r"qrels.tsv line 1: there is no query 'q9' in queries.jsonl"),
        ("qrels.tsv", "q1\tz\t1", r"qrels.tsv line 1: there is no document 'z' in corpus.jsonl"),
        ("split.json", '{"a": "train"}', r"split.json: document 'b' has split None; expected train, dev, test"),
        ("split.json", "{", r"split.json line 1: not JSON"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, file: str, content: str, message: str) -> None:
    _small(tmp_path)
    (tmp_path / file).write_text(content, "utf-8")
    with pytest.raises(UsageError, match=message) as failure:
        read_set(tmp_path)
    assert "\n" not in str(failure.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus.jsonl cannot be read"):
        read_set(tmp_path)


def test_taking_queries_keeps_their_documents(tmp_path: Path) -> None:
    judgements = read_set(_small(tmp_path)).judgements
    taken = judgements.take(np.array([2, 0]))
    assert [rows.tolist() for rows in taken.rows()] == [[0, 2], [0]]
