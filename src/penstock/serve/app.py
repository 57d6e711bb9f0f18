"""From settings to the ASGI application: loads the encoders, opens the store, checks that the two belong together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from fastapi import FastAPI

from penstock.assets import AssetStore
from penstock.config import Settings
from penstock.encoders.base import Encoder
from penstock.encoders.load import load_encoders, load_transcriber
from penstock.encoders.profiles import JOINT_IMAGE, Profile, load_profile
from penstock.errors import ConfigError
from penstock.query.embed import BatchingQueryEncoder
from penstock.query.understand.image import query_image_decoder
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.records import EncoderInput
from penstock.serve.routes.search import create_app
from penstock.serve.service import QueryService
from penstock.store.base import Store
from penstock.store.spec import index_spec


def build_app(settings: Settings) -> FastAPI:
    """The application of one replica, ready to answer. It closes its store and threads when it shuts down.

    Raises:
        ConfigError: an unknown profile, weights that cannot be had, an index made by another model, no store named.
        UnavailableError: the store does not answer.
    """
    return create_app(build_service(settings))


def build_service(settings: Settings, store: Store | None = None) -> QueryService:
    """Everything behind the routes. Takes a store that is open already, such as one in memory; else opens its own.

    Raises as `build_app` does.
    """
    profile = load_profile(settings.profile)
    store = open_store(settings) if store is None else store
    # The encoder keeps no vectors of its own: the query plane's cache stands before it.
    encoders = load_encoders(profile, precision=settings.precision, device=settings.device, cache_size=0)
    fingerprints = {role: encoder.fingerprint for role, encoder in encoders.items()}
    store.ensure(index_spec(profile, fingerprints, settings.store))
    warm_up(encoders, profile)
    return QueryService(
        settings=settings,
        profile=profile,
        store=store,
        encoder=BatchingQueryEncoder(
            encoders,
            decode_image=query_image_decoder(profile.image, settings.image),
            cache_size=settings.query.vector_cache_size,
        ),
        media=AssetStore(settings.asset_store_url),
        listener=_listener(profile, settings),
    )


def _listener(profile: Profile, settings: Settings) -> SpeechQueryTranscriber | None:
    """None where the profile has no speech model. The model is loaded when somebody first asks by voice."""
    if profile.speech is None:
        return None
    return SpeechQueryTranscriber(
        lambda: load_transcriber(profile, precision=settings.precision, device=settings.device), settings.query
    )


def open_store(settings: Settings) -> Store:
    """The store that the settings name.

    Raises:
        ConfigError: they name none.
        UnavailableError: it does not answer.
    """
    from penstock.store.milvus.store import MilvusStore

    if settings.store.uri is None:
        raise ConfigError("no store is named: set store.uri (PENSTOCK_STORE__URI), or start one with `penstock up`")
    return MilvusStore(settings.store)


def warm_up(encoders: Mapping[str, Encoder], profile: Profile) -> None:
    """Encodes one item with each, so that the first question is as fast as the second."""
    size = profile.image.size_px
    for role, encoder in encoders.items():
        if role == JOINT_IMAGE:
            encoder.encode(EncoderInput(role, ("warm-up",), pixels=np.zeros((1, size, size, 3), np.uint8)))
        else:
            encoder.encode(EncoderInput(role, ("warm-up",), texts=("warm-up",)))
