"""Dead letters: acknowledged before their events are settled, or the reason to halt."""

from __future__ import annotations

from penstock.errors import PermanentError, Reason, UnavailableError
from penstock.ingest.pipeline.types import HaltedDelivery
from penstock.records import Outcome, Position, Record, Rejected
from tests.ingest.builders import TOPIC, batch, delivery, outcomes
from tests.ingest.doubles import RecordingSink, memory_store, pipeline_on


def test_a_record_that_cannot_be_parsed_is_dead_lettered() -> None:
    store, sink = memory_store(), RecordingSink()
    rejected = Rejected(Position(TOPIC, 0, 0), "receive", Reason.MALFORMED, "no CloudEvent")
    report = pipeline_on(store, sink).run(batch(delivery(0, rejected=rejected), delivery(1, "b")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED, 1: Outcome.INDEXED}
    assert sink.letters == [rejected]


def test_no_event_is_settled_before_its_dead_letter_is_acknowledged() -> None:
    failures = iter([UnavailableError("no broker")] * 3)
    sink = RecordingSink(lambda _: next(failures, None))
    report = pipeline_on(memory_store(), sink).run(batch(delivery(0, "a", data=b"bad")))
    assert outcomes(report) == {0: Outcome.DEAD_LETTERED}
    assert len(sink.letters) == 1


def test_a_partition_halts_if_the_dead_letter_topic_rejects_a_letter_permanently() -> None:
    def refuse(_: Record) -> Exception:
        return PermanentError("larger than the topic's limit")

    pipeline = pipeline_on(memory_store(), RecordingSink(refuse))
    report = pipeline.run(batch(delivery(0, "a", data=b"bad"), delivery(1, "b")))
    assert outcomes(report) == {0: None, 1: Outcome.INDEXED}
    (halted,) = [settlement for settlement in report.settlements if isinstance(settlement, HaltedDelivery)]
    assert halted.reason == "the dead-letter topic cannot take media.text[0]@0: larger than the topic's limit"
