from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks import baselines as loops
from benchmarks.baselines import BaselineModel, load_model, model_only, naive_loop
from benchmarks.synthetic_images import SyntheticImages
from penstock.broker.base import Message
from penstock.broker.memory.broker import MemoryBroker
from penstock.config import StoreSettings, load_settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.null import NullEncoder
from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError
from penstock.records import Collection, EncoderInput, Float32
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec

TOPIC = "bench.loops"
PICTURES = SyntheticImages(2)


@pytest.fixture
def model() -> BaselineModel:
    return load_model(load_settings(profile="null:16"), threads=None)


@pytest.mark.parametrize("batch", [1, 8])
def test_the_naive_loop_indexes_and_commits_every_event(model: BaselineModel, batch: int) -> None:
    broker, store = MemoryBroker(), MemoryStore()
    profile = load_profile("null:16")
    store.ensure(index_spec(profile, profile_fingerprints(profile), StoreSettings()))
    broker.create_topic(TOPIC, partitions=3)
    producer = broker.producer()
    for number in range(21):
        producer.send(Message(TOPIC, key=f"{number}".encode(), value=PICTURES.image(number)))
    consumer = broker.consumer("loops", [TOPIC], drain_timeout_s=1.0)

    took_s = naive_loop(model, consumer, store, events=21, batch=batch)

    assert took_s > 0
    assert store.count(Collection.IMAGE) == 21
    assert sum(broker.committed("loops").values()) == 21


def test_a_loop_that_is_delivered_nothing_says_what_to_do(
    model: BaselineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(loops, "_POLL_S", 0.01)
    broker = MemoryBroker()
    broker.create_topic(TOPIC)
    consumer = broker.consumer("loops", [TOPIC], drain_timeout_s=1.0)
    with pytest.raises(UnavailableError, match=r"delivered nothing.*Measure again.*`kafka\.log`"):
        naive_loop(model, consumer, MemoryStore(), events=1, batch=1)


def test_the_bare_loop_encodes_every_picture_once(model: BaselineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda batch: (encoded.append(len(batch)), encode(batch))[1])
    assert model_only(model, PICTURES.images(0, 70)) > 0
    assert encoded == [32, 32, 6]


def test_the_same_picture_is_encoded_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops get the same images in turn: with a cache the later ones would not be measured."""
    forwarded: list[int] = []
    forward = NullEncoder._forward

    def counted(encoder: NullEncoder, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        forwarded.append(len(rows))
        return forward(encoder, batch, rows)

    monkeypatch.setattr(NullEncoder, "_forward", counted)
    model = load_model(load_settings(profile="null:16"), threads=None)
    for _ in range(3):
        model.encode(model.decode([PICTURES.image(7)]))
    assert forwarded == [1, 1, 1]
