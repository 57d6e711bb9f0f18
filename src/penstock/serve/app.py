"""Builds the ASGI application from settings: opens the store, loads the encoders, and wires use cases and routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple

import numpy as np
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from penstock import __version__
from penstock.analysis import ANALYZER
from penstock.analysis.language_detector import load_detector
from penstock.assembly import folders_that_grow, open_assets, open_store
from penstock.config import Settings
from penstock.encoders.base import Encoder, Fingerprint
from penstock.encoders.load import load_encoders, load_transcriber
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_TEXT, SOUND_AUDIO, Profile, load_profile
from penstock.encoders.rerank import PassageScorer, load_maxsim, load_scorer
from penstock.errors import ConfigError, UnavailableError
from penstock.media.claim_check import ClaimCheckReader
from penstock.observability.build_info import export_build_info
from penstock.query.calibrations import find_calibration
from penstock.query.changes import IndexChanges
from penstock.query.embed import BatchingQueryEncoder
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.first_places import FirstPlaces
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.fusion.statistics_file import StatisticsFile, statistics_key
from penstock.query.parts.images import EntryImageReader
from penstock.query.pipeline import QueryPipeline
from penstock.query.routing.router import Router
from penstock.query.understand.image import query_image_decoder
from penstock.query.understand.speech import SpeechQueryTranscriber
from penstock.query.watches.context import WatchPreparer
from penstock.records import EncoderInput, Field, Float32
from penstock.serve import problems
from penstock.serve.change_feed import follow_changes, result_cache
from penstock.serve.dependencies import provide
from penstock.serve.middleware.body_limit import BodyLimit, body_limit
from penstock.serve.middleware.metrics import RequestMetrics
from penstock.serve.middleware.tracing import SearchTracing
from penstock.serve.plane import QueryPlane
from penstock.serve.routes import media, search, status, suggest, watches
from penstock.serve.use_cases.media import MediaService
from penstock.serve.use_cases.search import SearchService
from penstock.serve.use_cases.status import StatusService
from penstock.serve.use_cases.suggest import SuggestService
from penstock.serve.watches import start_watches, watch_service
from penstock.serve.word_tools import open_word_tools
from penstock.store.base import Store
from penstock.store.spec import index_spec

logger = logging.getLogger(__name__)


def build_app(settings: Settings) -> FastAPI:
    """Returns the application of one replica, ready to answer. It closes its store and threads when it shuts down.

    Raises:
        ConfigError: an unknown profile, missing weights, an index of another model, or no store in the settings.
        UnavailableError: the store does not answer.
    """
    return create_app(build_query_plane(settings))


def build_query_plane(settings: Settings, store: Store | None = None) -> QueryPlane:
    """Returns the query plane over an open store, such as one in memory, or over the store of the settings.

    Over the limit because it wires every part of the plane. Raises as `build_app` does.
    """
    profile = load_profile(settings.profile)
    store = open_store(settings.store) if store is None else store
    # The encoders keep no vectors: the cache of the query plane comes before them.
    encoders = load_encoders(profile, precision=settings.precision, device=settings.device, cache_size=0)
    fingerprints = {role: encoder.fingerprint for role, encoder in encoders.items()}
    spec = index_spec(profile, fingerprints, settings.store)
    store.ensure(spec)
    export_build_info(profile=profile.name, index_version=spec.version, models=spec.model_slug.values())
    warm_up(encoders, profile)
    load_detector()
    scorer = _scorer(profile, encoders, settings)
    encoder = _query_encoder(encoders, scorer, profile, settings)
    transcriber = _transcriber(profile, settings)
    statistics = StatisticsFile(settings.data_dir / "query-statistics", _statistics_key(fingerprints))
    fusions = _fusions(statistics.statistics, profile, fingerprints, settings, store.capabilities.dense_index)
    assets, claim_checks = open_assets(settings), ClaimCheckReader(settings.fetch)
    words = open_word_tools(settings, store)
    pipeline = QueryPipeline(
        store,
        encoder,
        profile,
        settings.query,
        transcriber=transcriber,
        fusions=fusions,
        reader=None if scorer is None else encoder,
        router=Router.of_settings(settings.query, _question_encoder(profile, encoders[PASSAGE_TEXT])),
        images=EntryImageReader(assets, claim_checks),
        words=words,
    )
    changes = IndexChanges()
    if words.vocabularies is not None:
        changes.subscribe(words.vocabularies.changed)
    cache = result_cache(pipeline, changes, settings, store.capabilities)
    searches = SearchService(pipeline, cache, profile=profile, default_tenant=settings.tenant)
    preparer = WatchPreparer(store, encoder, profile, settings.query, fusions=fusions, executor=pipeline.executor)
    watch_worker = start_watches(settings, store, preparer, fusions.calibration, watches.request_of)
    return QueryPlane(
        settings=settings,
        profile=profile,
        store=store,
        encoder=encoder,
        transcriber=transcriber,
        pipeline=pipeline,
        words=words,
        statistics=statistics,
        changes=changes,
        follower=follow_changes(settings.kafka, changes),
        assets=assets,
        claim_checks=claim_checks,
        searches=searches,
        suggestions=SuggestService(words.vocabularies, default_tenant=settings.tenant),
        status=StatusService(
            store,
            encoder,
            pipeline.executor,
            searches.counts,
            profile=profile,
            folders=folders_that_grow(settings, assets),
            min_free_disk_bytes=settings.ingest.min_free_disk_bytes,
        ),
        media=MediaService(assets, pipeline.executor, timeout_s=settings.store.timeout_s),
        watches=watch_service(settings, preparer, watch_worker),
        watch_worker=watch_worker,
    )


def create_app(plane: QueryPlane) -> FastAPI:
    """Returns the ASGI application over a query plane, which it closes when it shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if plane.watch_worker is not None:
            plane.watch_worker.start(asyncio.get_running_loop())
        yield
        await plane.close_connections()
        # The evaluator of watches may wait for this event loop.
        await asyncio.to_thread(plane.close)

    app = FastAPIOffline(  # FastAPI with the scripts of /docs from the package instead of a CDN
        title="Penstock",
        summary="Search text, images, audio and video seconds after they were produced.",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
    )
    provide(app, plane)
    app.add_middleware(BodyLimit, max_bytes=body_limit(plane.settings.query))
    app.add_middleware(RequestMetrics, search_path=search.PATH)
    app.add_middleware(SearchTracing, path=search.PATH)
    problems.install(app)
    for routes in (search, suggest, status, media, watches):
        app.include_router(routes.router)
    return app


def warm_up(encoders: Mapping[str, Encoder], profile: Profile) -> None:
    """Encodes one item with each encoder of queries, so that the first query is as fast as the second."""
    size = profile.image.size_px
    for role, encoder in encoders.items():
        if role == JOINT_IMAGE:
            encoder.encode(EncoderInput(role, ("warm-up",), pixels=np.zeros((1, size, size, 3), np.uint8)))
        elif role != SOUND_AUDIO:  # no query is a sound
            encoder.encode(EncoderInput(role, ("warm-up",), texts=("warm-up",)))


def _query_encoder(
    encoders: Mapping[str, Encoder], scorer: PassageScorer | None, profile: Profile, settings: Settings
) -> BatchingQueryEncoder:
    return BatchingQueryEncoder(
        encoders,
        decode_image=query_image_decoder(profile.image, settings.image),
        cache_size=settings.query.vector_cache_size,
        scorer=scorer,
    )


def _fusions(
    statistics: ChannelStatistics,
    profile: Profile,
    fingerprints: Mapping[str, Fingerprint],
    settings: Settings,
    dense_index: str,
) -> FusionChooser:
    """Returns what makes the fusion of each query, with the calibration that fits the index."""
    calibration = find_calibration(settings.query.calibration, settings.data_dir, profile, fingerprints, dense_index)
    return FusionChooser(statistics, calibration, FirstPlaces(settings.query.relevance_floor))


def _question_encoder(profile: Profile, encoder: Encoder) -> Callable[[Sequence[str]], Float32]:
    """Returns a function from questions to their vectors by the sentence encoder: float32[questions, dim]."""
    role = profile.query_encoder(Field.PASSAGE)

    def encode(questions: Sequence[str]) -> Float32:
        keys = tuple(str(number) for number in range(len(questions)))
        return encoder.encode(EncoderInput(role, keys, texts=tuple(questions))).vectors

    return encode


def _statistics_key(fingerprints: Mapping[str, Fingerprint]) -> str:
    """Returns the key of the statistics of channels, which hold for these encoders and the store's analyzer."""
    names = {role: "/".join(astuple(fingerprint)) for role, fingerprint in fingerprints.items()}
    return statistics_key(names, ANALYZER)


def _scorer(profile: Profile, encoders: Mapping[str, Encoder], settings: Settings) -> PassageScorer | None:
    """Returns the reranking model of the profile; None if its sentence encoder cannot serve as one either.

    Requests may rerank although the setting is off. MaxSim needs no weights for that; a cross-encoder, which does, is
    loaded only if the setting is on. One that cannot be loaded has MaxSim in its place.
    """
    encoder = encoders[PASSAGE_TEXT]
    if settings.query.rerank != "off":
        try:
            return load_scorer(profile, encoder, precision=settings.precision, device=settings.device)
        except (ConfigError, UnavailableError) as exc:
            logger.warning("the reranking model of profile %s is replaced by maxsim: %s", profile.name, exc)
    return load_maxsim(encoder)


def _transcriber(profile: Profile, settings: Settings) -> SpeechQueryTranscriber | None:
    """Returns None where the profile has no speech model. The first spoken query loads the model."""
    if profile.speech is None:
        return None
    return SpeechQueryTranscriber(
        lambda: load_transcriber(profile, precision=settings.precision, device=settings.device), settings.query
    )
