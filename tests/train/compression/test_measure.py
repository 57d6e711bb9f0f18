"""Tests of the table of compressions, of one compression as a transform, and of the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.cli import main as cli
from penstock.encoders.transform import about_of, load_transform
from penstock.errors import UsageError
from penstock.evaluate.metrics import NDCG
from penstock.train.compression.codes import BIT_RESCORED, FP32, INT8
from penstock.train.compression.fit import CompressionMethod, fit_compression, fit_reducer
from penstock.train.compression.measure import CompressionData, CompressionRow, measure_compression
from tests.evaluate.made_sets import write_texts
from tests.train.compression.made_data import DIM, made_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CompressionData:
    return made_data(tmp_path_factory.mktemp("compression"))


@pytest.fixture(scope="module")
def table(data: CompressionData) -> list[CompressionRow]:
    return measure_compression(data, (32, 8), seed=0, draws=200)


def row_of(table: list[CompressionRow], method: str, dim: int, code: str) -> CompressionRow:
    (row,) = (row for row in table if (row.method, row.dim, row.code) == (method, dim, code))
    return row


def test_whole_vectors_come_first_and_are_the_base_of_every_difference(table: list[CompressionRow]) -> None:
    assert (table[0].method, table[0].dim, table[0].code, table[0].bytes) == ("whole", DIM, FP32, DIM * 4)
    assert table[0].difference.mean == 0.0
    for row in table[1:]:
        assert row.difference.mean == pytest.approx(row.figures[NDCG].mean - table[0].figures[NDCG].mean)


def test_a_byte_costs_nothing_and_an_eighth_of_the_dimensions_does(table: list[CompressionRow]) -> None:
    assert abs(row_of(table, "whole", DIM, INT8).difference.mean) <= 0.01
    eighth = row_of(table, "pca of documents and queries", 8, FP32)
    assert eighth.difference.high < 0
    assert eighth.corrected_p >= eighth.p


def test_every_method_has_a_row_of_every_dimension(table: list[CompressionRow]) -> None:
    methods = {row.method for row in table if row.dim == 32}
    assert methods == {
        "prefix, untrained",
        "random projection",
        "pca of documents",
        "pca of documents and queries",
        "matryoshka head",
        "autoencoder",
    }
    assert row_of(table, "whole", DIM, BIT_RESCORED).bytes == DIM * 9 // 8


def test_nothing_is_fitted_to_documents_or_questions_of_test(data: CompressionData) -> None:
    documents, questions = data.fitting_vectors()
    of_test = {vector.tobytes() for vector in (*data.documents[2::4], *data.documents[3::4], *data.queries[data.test])}
    assert not of_test & {vector.tobytes() for vector in (*documents, *questions)}
    assert len(documents) == 50


@pytest.mark.parametrize("method", [CompressionMethod.PCA, CompressionMethod.AUTOENCODER, CompressionMethod.MATRYOSHKA])
def test_a_compression_is_a_transform_with_the_same_figures(data: CompressionData, method: CompressionMethod) -> None:
    transform, card = fit_compression(data, method, 16, profile="made", encoder="made 1", seed=0, draws=100)
    assert (transform.input_dim, transform.output_dim) == (DIM, 16)
    np.testing.assert_allclose(
        transform.apply(data.queries), fit_reducer(data, method, 16, seed=0).apply(data.queries), atol=1e-5
    )
    assert card.transform == transform.fingerprint
    assert [row.method for row in card.rows[:3]] == ["whole"] * 3
    assert about_of(transform)["made_for"] == "made 1"


def test_no_compression_has_more_dimensions_than_the_vectors(data: CompressionData) -> None:
    with pytest.raises(UsageError, match="is no compression: the vectors have 64 dimensions"):
        fit_reducer(data, CompressionMethod.PCA, DIM, seed=0)


def test_the_command_writes_transform_and_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    folder = write_texts(tmp_path / "texts", concepts=120)
    out = tmp_path / "small.safetensors"
    arguments = ["--set", str(folder), "--profile", "null", "--dim", "16", "--out", str(out), "--json"]
    assert cli.main(["train", "compress", *arguments]) == 0
    card = json.loads(capsys.readouterr().out)
    transform = load_transform(out)
    assert transform.output_dim == 16
    assert card["transform"] == transform.fingerprint
    assert json.loads(out.with_suffix(".card.json").read_text("utf-8"))["rows"] == card["rows"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "prefix"], "the encoder was not trained for it"),
        (["--method", "umap"], "is none of pca, autoencoder, matryoshka"),
        (["--modality", "video"], "neither text nor image"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_read(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "compress", "--set", str(tmp_path / "none"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_set_without_splits_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    folder = write_texts(tmp_path / "texts", concepts=8)
    (folder / "split.json").unlink()
    assert cli.main(["train", "compress", "--set", str(folder), "--profile", "null"]) == 2
    assert "has no splits" in capsys.readouterr().err
