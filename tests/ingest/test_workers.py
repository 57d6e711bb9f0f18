from __future__ import annotations

from pathlib import Path

from penstock.config import load_settings
from penstock.errors import Reason
from penstock.ingest.workers import MakeEncodeWorker, MakeMediaWorker, known_good
from penstock.records import EncoderInput, Modality
from tests.ingest.builders import event


def test_the_known_good_event_of_every_modality_is_taken_by_healthy_workers(tmp_path: Path) -> None:
    settings = load_settings(profile="null", data_dir=tmp_path)
    worker = MakeMediaWorker(settings)(0)
    for modality, sample in known_good(settings).items():
        role = "passage.text" if modality is Modality.TEXT else "joint.image"
        decoded, batch = worker.fetch_and_decode([sample], [role])
        assert (decoded.rejected, len(decoded.drafts)) == ((), 1)
        assert MakeEncodeWorker(settings, role)(0).encode(batch).failed == ()


def test_a_batch_that_was_rejected_as_a_whole_still_passes_the_encoder(tmp_path: Path) -> None:
    settings = load_settings(profile="reference", data_dir=tmp_path)
    worker = MakeMediaWorker(settings)(0)
    decoded, batch = worker.fetch_and_decode([event(0, data=b"\x89PNG\r\n\x1a\n and no picture")], ["joint.image"])
    assert [one.reason for one in decoded.rejected] == [Reason.WRONG_TOPIC]
    assert len(batch) == 0
    assert MakeEncodeWorker(settings, "joint.image")(0).encode(EncoderInput("joint.image", ())).vectors.shape == (
        0,
        384,
    )
