"""Making the collections, and refusing those that another encoder filled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pymilvus import CollectionSchema, MilvusClient
from pymilvus.milvus_client.index import IndexParam, IndexParams

from penstock.config import StoreSettings
from penstock.errors import ConfigError, PermanentError, UnavailableError
from penstock.records import Collection, Field
from penstock.store import provenance as makers
from penstock.store.base import IndexSpec
from penstock.store.milvus import schema
from penstock.store.milvus.aliases import Aliases
from penstock.store.milvus.client import Connection
from penstock.store.names import PhysicalCollection, asset_collection, check_served_version, entry_collection

log = logging.getLogger(__name__)

SETUP_TIMEOUT_S = 60.0
"""Least time for a step of setting up: loading took a 2.3.5 standalone 2 s idle and over 10 s on two busy cores."""


class Provisioner:
    """Brings the store to what an `IndexSpec` asks for. Idempotent; two processes may do it at once."""

    def __init__(self, connection: Connection, versions: Aliases, settings: StoreSettings) -> None:
        self._connection = connection
        self._aliases = versions
        self._consistency = settings.consistency
        self._timeout_s = max(settings.timeout_s, SETUP_TIMEOUT_S)

    def ensure(self, spec: IndexSpec) -> None:
        """1. refuse aliases that a model other than the spec's serves in the same version
        2. create, complete or compare each collection, and load it
        3. create the aliases that are missing; only a reindex switches one.
        """
        targets = {each: entry_collection(each, spec.model_slug[each], spec.version) for each in spec.vectors}
        self._refuse_other_models(targets, spec)
        for collection, target in targets.items():
            self._ensure_entries(collection, target, spec)
        assets = asset_collection(spec.version)
        self._ensure(assets, schema.assets_schema(self._connection.backend), schema.assets_indexes(), "{}", spec)
        for target in (*targets.values(), assets):
            if self._aliases.served(target.alias) is None:
                self._create_alias(target)

    def describe(self, name: str) -> Mapping[str, Any] | None:
        """What the server says of a collection or alias; None if there is none."""
        found: Mapping[str, Any] | None = self._connection.call_or_none(
            f"describing {name}", lambda client: client.describe_collection(name, timeout=self._timeout_s)
        )
        return found

    def dense_fields(self, name: str) -> Mapping[Field, int]:
        """The dense vector fields of a collection or alias, with their dimensions.

        Raises:
            ConfigError: there is no such collection.
        """
        described = self.describe(name)
        if described is None:
            raise ConfigError(f"the store has no collection {name}: `penstock ingest` makes it")
        return {field: int(made["dim"]) for field, made in makers.recorded(name, described["properties"]).items()}

    def _refuse_other_models(self, targets: Mapping[Collection, PhysicalCollection], spec: IndexSpec) -> None:
        """Encoders first, so that the message names two models wherever it can."""
        served = {collection: self._aliases.served(target.alias) for collection, target in targets.items()}
        for collection, physical in served.items():
            if physical is not None and physical.version == spec.version:
                described = self.describe(str(physical))
                if described is not None:
                    makers.check_compatible(str(physical), described["properties"], spec.vectors[collection])
        for collection, physical in served.items():
            check_served_version(targets[collection], physical)

    def _ensure_entries(self, collection: Collection, target: PhysicalCollection, spec: IndexSpec) -> None:
        backend, vectors = self._connection.backend, spec.vectors[collection]
        fields = makers.supported_fields(collection, vectors, backend.capabilities)
        lacking = [field for field in makers.required_fields(collection, vectors) if field not in fields]
        if lacking:
            product = backend.capabilities.product
            log.warning("%s cannot hold %s of %s: these channels are missing", product, ", ".join(lacking), collection)
        made = self._ensure(
            target,
            schema.entries_schema(fields, vectors, backend),
            schema.entries_indexes(fields, backend),
            makers.made_by(fields, vectors),
            spec,
        )
        makers.check_compatible(str(target), made, vectors)

    def _ensure(
        self, target: PhysicalCollection, columns: CollectionSchema, indexes: IndexParams, made_by: str, spec: IndexSpec
    ) -> Mapping[str, Any]:
        """Returns the properties of the collection as it is now."""
        name = str(target)
        if self.describe(name) is None:
            log.info("creating collection %s", name)
            self._unless_done(
                f"creating collection {name}",
                lambda client: client.create_collection(
                    name,
                    schema=columns,
                    num_shards=spec.num_shards if self._connection.backend.capabilities.shards else 1,
                    consistency_level=self._consistency,
                    properties={makers.VECTORS_PROPERTY: made_by},
                    timeout=self._timeout_s,
                ),
                lambda: self.describe(name) is not None,
            )
        self._index(name, indexes)
        self._connection.call(
            f"loading collection {name}", lambda client: client.load_collection(name, timeout=self._timeout_s)
        )
        described = self.describe(name)
        return described["properties"] if described else {}

    def _create_alias(self, target: PhysicalCollection) -> None:
        self._unless_done(
            f"creating alias {target.alias}",
            lambda client: client.create_alias(str(target), target.alias, timeout=self._timeout_s),
            lambda: self._aliases.served(target.alias) is not None,
        )

    def _index(self, name: str, indexes: IndexParams) -> None:
        """Creates the indexes that are missing: all of them, or what a crash left undone."""
        there = self._indexed(name)
        for index in indexes:
            if index.field_name not in there:
                self._create_index(name, index)

    def _create_index(self, name: str, index: IndexParam) -> None:
        one = MilvusClient.prepare_index_params()
        one.append(index)
        self._unless_done(
            f"indexing {index.field_name} of {name}",
            lambda client: client.create_index(name, one, timeout=self._timeout_s),
            lambda: index.field_name in self._indexed(name),
        )

    def _indexed(self, name: str) -> set[str]:
        listed = self._connection.call_or_none(f"listing indexes of {name}", lambda client: client.list_indexes(name))
        return set(listed or ())

    def _unless_done(self, doing: str, request: Callable[[MilvusClient], object], done: Callable[[], bool]) -> None:
        """Sends a request that another process may have been quicker with."""
        try:
            self._connection.call(doing, request)
        except (PermanentError, UnavailableError):
            if not done():
                raise
