"""`penstock train adapter` and `penstock adapter` as commands, on planted vectors of the null encoders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from penstock.assets import AssetStore
from penstock.cli import main as cli
from penstock.encoders.profiles import load_profile
from penstock.evaluate.vectors import VectorFiles
from penstock.query.adapters import read_promotions
from penstock.train import gate
from penstock.versions import KeptIndex, Phase, Reindex, drop_reindex, write_kept_index, write_reindex
from tests.train.planted import planted, write_planted


@pytest.fixture(scope="module")
def planted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a set and its vectors."""
    folder = tmp_path_factory.mktemp("made")
    write_planted(folder / "set", folder / "vectors", planted())
    return folder


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of fewer draws are a little less exact, and ten times as fast."""
    monkeypatch.setattr(gate, "DRAWS", 1_000)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PENSTOCK_PROFILE", "null:32")
    return tmp_path / "data"


def train(planted_folder: Path, *arguments: str) -> int:
    options = ("--set", str(planted_folder / "set"), "--vectors", str(planted_folder / "vectors"), *arguments)
    return cli.main(["train", "adapter", *options])


def adapter(*arguments: str) -> int:
    return cli.main(["adapter", *arguments])


def used(data_dir: Path, version: int = 1) -> list[str]:
    assets = AssetStore((data_dir / "assets").as_uri())
    return [promotion.name for promotion in read_promotions(assets).active(version)]


torch.set_num_threads(1)


def test_an_adapter_is_trained_promoted_listed_and_rolled_back(
    planted_folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(planted_folder, "--lang", "ja", "--count", "100", "--name", "ja", "--test") == 0
    shown = capsys.readouterr()
    assert "lang ja" in shown.out
    assert "split test" in shown.out
    assert "The gate: it passes" in shown.err
    file = data_dir / "adapters" / "ja.safetensors"
    assert 0 < file.stat().st_size < 1_000_000
    card = json.loads(file.with_suffix(".card.json").read_text())
    assert (card["pairs"], card["lang"], card["passes"]) == (100, "ja", True)
    assert used(data_dir) == []
    assert adapter("promote", "ja") == 0
    assert used(data_dir) == ["ja"]
    assert "Promoted: ja for questions in ja on passage" in capsys.readouterr().err
    assert adapter("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["adapter"], row["state"]) for row in listed["promotions"]] == [("ja", "used")]
    assert listed["trained"] == []
    assert adapter("rollback") == 0
    assert used(data_dir) == []
    assert "In use now: the encoder as it is" in capsys.readouterr().err
    assert adapter("rollback") == 2
    recorded = [json.loads(line) for line in (data_dir / "audit-log.jsonl").read_text().splitlines()]
    assert [line["target"].get("promote") or line["target"]["rollback"] for line in recorded] == ["ja", "ja"]


def test_an_adapter_is_promoted_for_the_version_that_is_served_or_filled(
    planted_folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(planted_folder, "--lang", "ja", "--name", "ja") == 0
    assert adapter("promote", "ja", "--index-version", "2") == 2
    assert "there is no version 2 of the index, but 1" in capsys.readouterr().err
    assert not (data_dir / "assets" / "adapters.json").exists()
    assets = AssetStore((data_dir / "assets").as_uri())
    changes = {"profile": "null:32", "store": {"version": 2}}
    under_way = Reindex(1, 2, "null:32", "group-2", 0, Phase.READY, settings=changes)
    write_reindex(assets, under_way)
    assert adapter("promote", "ja") == 0
    assert (used(data_dir, 1), used(data_dir, 2)) == (["ja"], [])
    assert adapter("promote", "ja", "--index-version", "2") == 0
    assert used(data_dir, 2) == ["ja"]
    assert adapter("promote", "ja", "--index-version", "3") == 2
    assert adapter("rollback") == 0
    write_reindex(assets, replace(under_way, phase=Phase.SWITCHED))
    assert adapter("promote", "ja") == 0
    assert used(data_dir, 2) == ["ja"], "the default is the version that is served"
    assert adapter("rollback") == 0
    write_reindex(assets, replace(under_way, phase=Phase.DROPPED, dropping=1))
    assert adapter("promote", "ja", "--index-version", "1") == 2
    drop_reindex(assets)
    write_kept_index(assets, KeptIndex(2, changes))
    assert adapter("promote", "ja") == 0
    assert used(data_dir, 2) == ["ja"]


def test_an_adapter_that_the_gate_declines_changes_nothing(
    planted_folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(planted_folder, "--lang", "en", "--kind", "procrustes", "--count", "40", "--name", "en") == 0
    capsys.readouterr()
    code = adapter("promote", "en")
    shown = capsys.readouterr()
    if (data_dir / "adapters" / "en.safetensors").exists():
        assert code == 1
        assert "lang en" in shown.out
        assert "Declined: the gain on lang en is not above 0" in shown.err
    else:
        assert code == 2
        assert "nothing better than the encoder as it is" in shown.err
    assert used(data_dir) == []


def test_a_worse_candidate_does_not_follow_the_adapter_in_use(
    planted_folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(planted_folder, "--lang", "ja", "--name", "good") == 0
    assert train(planted_folder, "--lang", "ja", "--count", "60", "--name", "worse") == 0
    assert adapter("promote", "good") == 0
    capsys.readouterr()
    assert adapter("promote", "worse", "--json") == 1
    declined = json.loads(capsys.readouterr().out)
    assert declined["promoted"] is None
    assert "is not above 0" in declined["reasons"][0]
    assert used(data_dir) == ["good"]


def test_an_adapter_measured_on_other_documents_does_not_follow_the_one_in_use(
    planted_folder: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The questions are the same ones; the other set has one document more, among which each of them is ranked."""
    wider = tmp_path / "set"
    shutil.copytree(planted_folder / "set", wider)
    with (wider / "corpus.jsonl").open("a") as corpus:
        corpus.write(json.dumps({"_id": "more", "text": "document 0"}) + "\n")
    splits = json.loads((wider / "split.json").read_text())
    (wider / "split.json").write_text(json.dumps({**splits, "more": splits["d0"]}))
    bank = planted().bank
    texts = [*(f"document {row}" for row in range(len(bank))), "document 0"]
    stored = VectorFiles(planted_folder / "vectors", load_profile("null:32"))
    stored.put_texts("passage.text", texts, np.concatenate([bank, bank[:1]]))
    assert train(planted_folder, "--lang", "ja", "--count", "60", "--name", "first") == 0
    assert train(planted_folder, "--lang", "ja", "--name", "wider", "--set", str(wider)) == 0
    cards = [json.loads((data_dir / "adapters" / f"{name}.card.json").read_text()) for name in ("first", "wider")]
    assert cards[0]["figures"]["ids"] == cards[1]["figures"]["ids"]
    assert adapter("promote", "first") == 0
    capsys.readouterr()
    assert adapter("promote", "wider") == 2
    assert "first, which is in use, was measured on other documents" in capsys.readouterr().err
    assert used(data_dir) == ["first"]
    assert adapter("rollback") == 0
    assert adapter("promote", "wider") == 0


def test_an_adapter_of_another_encoder_is_not_promoted(
    planted_folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(planted_folder, "--lang", "ja", "--name", "ja") == 0
    assert adapter("promote", "ja", "--profile", "null:64") == 2
    assert "was fitted to passage.text null-passage" in capsys.readouterr().err


def test_an_exchanged_file_is_not_promoted(
    planted_folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(planted_folder, "--lang", "ja", "--name", "one") == 0
    assert train(planted_folder, "--lang", "ja", "--name", "two", "--count", "60") == 0
    folder = data_dir / "adapters"
    (folder / "one.safetensors").write_bytes((folder / "two.safetensors").read_bytes())
    assert adapter("promote", "one") == 2
    assert "is not the adapter that its card describes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--side", "both", "--kind", "projection", "--epochs", "5"], "penstock reindex start --transform"),
        (["--side", "document", "--kind", "procrustes"], "Train it with --side both"),
    ],
)
def test_an_adapter_that_maps_documents_is_not_promoted(
    options: list[str], message: str, planted_folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(planted_folder, *options, "--name", "documents") == 0
    assert adapter("promote", "documents") == 2
    assert message in capsys.readouterr().err


def test_the_figures_are_written_as_json(
    planted_folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(planted_folder, "--lang", "ja", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["name"] == "set-ja-ridge"
    assert document["slices"][0]["name"] == "lang ja"
    assert document["test"] is None
    assert np.isfinite(document["slices"][0]["gain"])


def test_pairs_of_a_file_are_fitted(planted_folder: Path, data_dir: Path, tmp_path: Path) -> None:
    rows = [{"question": f"question {number}", "text": f"text {number}"} for number in range(80)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["train", "adapter", "--pairs", str(file)]) == 0
    card = json.loads((data_dir / "adapters" / "pairs-ridge.card.json").read_text())
    assert (card["pairs"], len(card["figures"]["ids"])) == (48, 32)
    assert card["passes"] is False, "the null encoders hash: nothing generalises"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --set, --pairs and --clicks"),
        (["--set", "a", "--clicks"], "give one of"),
        (["--clicks"], "no Milvus is configured"),
    ],
)
def test_a_call_without_pairs_is_refused(
    arguments: list[str], message: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "adapter", *arguments]) in {2, 3}
    assert message in capsys.readouterr().err


def test_an_unknown_adapter_is_refused(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adapter("promote", "nothing") == 2
    assert "there is no adapter nothing" in capsys.readouterr().err
    assert adapter("list") == 0
