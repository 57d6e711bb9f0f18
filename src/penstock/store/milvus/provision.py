"""Creates the collections, indexes and aliases, and refuses collections that another encoder filled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pymilvus import CollectionSchema, MilvusClient
from pymilvus.milvus_client.index import IndexParam, IndexParams

from penstock.config import StoreSettings
from penstock.errors import ConfigError, PermanentError, UnavailableError
from penstock.records import Collection, Field
from penstock.store import provenance, rows
from penstock.store.base import IndexSpec, VectorSpec
from penstock.store.milvus import schema
from penstock.store.milvus.aliases import Aliases
from penstock.store.milvus.client import Connection
from penstock.store.names import PhysicalCollection, asset_collection, check_served_version, entry_collection

logger = logging.getLogger(__name__)

# Minimum timeout of a step: loading took a 2.3.5 standalone 2 s idle and over 10 s on two busy cores.
SETUP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns in which collections of entries differ.

    Attributes:
        dense_fields: the dense vector fields, with their dimensions.
        has_terms: whether BM25 compares terms; a collection of an older Penstock compares texts.
        entry_columns: those of `rows.ENTRY_COLUMNS` that it has; a collection of schema 1 has no pages.
    """

    dense_fields: Mapping[Field, int]
    has_terms: bool
    entry_columns: tuple[str, ...]

    @classmethod
    def from_description(cls, name: str, described: Mapping[str, Any]) -> Layout:
        """Returns the layout of a collection as the server describes it."""
        encoders = provenance.from_properties(name, described["properties"])
        columns = {column["name"] for column in described["fields"]}
        present = tuple(column for column in rows.ENTRY_COLUMNS if column in columns)
        return cls({field: info.dim for field, info in encoders.items()}, schema.TERMS in columns, present)


class Provisioner:
    """Brings the store to the state that an `IndexSpec` requires. Idempotent; two processes may run it concurrently."""

    def __init__(self, connection: Connection, aliases: Aliases, settings: StoreSettings) -> None:
        self._connection = connection
        self._aliases = aliases
        self._consistency = settings.consistency
        self._index = settings.index
        self._timeout_s = max(settings.timeout_s, SETUP_TIMEOUT_S)

    def ensure(self, spec: IndexSpec) -> None:
        """Creates and checks everything, in this order.

        1. refuse aliases that another model than the specification's serves in the same version
        2. create, complete or compare each collection, and load it
        3. create the aliases that are missing, unless another version is served; only a re-index switches one
        """
        targets = {
            collection: entry_collection(collection, spec.model_slug[collection], spec.version)
            for collection in spec.vectors
        }
        self._refuse_other_models(targets, spec)  # 1
        for collection, target in targets.items():  # 2
            self._ensure_entries(collection, target, spec)
        assets = asset_collection(spec.version)
        properties = provenance.properties_of((), {})
        self._ensure(assets, schema.assets_schema(self._connection.backend), schema.assets_indexes(), properties, spec)
        served = self._aliases.served(assets.alias)
        if served is not None and served != assets:
            return
        for target in (*targets.values(), assets):  # 3
            if self._aliases.served(target.alias) is None:
                self._create_alias(target)

    def verify(self, spec: IndexSpec) -> None:
        """Checks that everything of the specification is there, and creates nothing: for a user that may only read.

        Raises:
            ConfigError: a collection is missing, or another encoder or another release filled it.
        """
        targets = {
            collection: entry_collection(collection, spec.model_slug[collection], spec.version)
            for collection in spec.vectors
        }
        self._refuse_other_models(targets, spec)
        for collection, target in targets.items():
            self._check_compatible(str(target), self._present(target)["properties"], collection, spec)
        self._present(asset_collection(spec.version))

    def _present(self, target: PhysicalCollection) -> Mapping[str, Any]:
        """Returns the description of a collection, of which another version may be served."""
        described = self.describe(str(target))
        if described is None:
            raise ConfigError(
                f"the store has no collection {target}: `penstock ingest` creates it, and store.readonly_token only "
                "reads. Start the ingest plane first"
            )
        provenance.check_schema(str(target), described["properties"])
        return described

    def describe(self, name: str) -> Mapping[str, Any] | None:
        """Returns the server's description of a collection or alias; None if there is none."""
        described: Mapping[str, Any] | None = self._connection.call_or_none(
            f"describing {name}", lambda client: client.describe_collection(name, timeout=self._timeout_s)
        )
        return described

    def recorded_spec(self, version: int) -> IndexSpec:
        """Returns the specification that the collections of a version fulfil, from what is recorded with them.

        Raises:
            ConfigError: there is none of this version, or one is not Penstock's.
        """
        vectors: dict[Collection, Mapping[Field, VectorSpec]] = {}
        slugs: dict[Collection, str] = {}
        lexical: set[Collection] = set()
        shards = 1
        for collection in Collection:
            if not any(name.version == version for name in self._aliases.candidates(collection.value)):
                continue
            physical = self._aliases.resolve(collection.value, version)
            described = self.describe(str(physical))
            if described is None:  # dropped just now
                continue
            encoders = provenance.from_properties(str(physical), described["properties"])
            vectors[collection] = {field: info.to_spec() for field, info in encoders.items()}
            slugs[collection] = physical.slug
            shards = max(shards, int(described.get("num_shards") or 1))
            if Field.LEXICAL.value in {column["name"] for column in described["fields"]}:
                lexical.add(collection)
        if not vectors:
            raise ConfigError(
                f"the store has no collections of version {version}: check store.uri, store.database and store.version"
            )
        return IndexSpec(vectors, slugs, version, shards, frozenset(lexical))

    def layout(self, name: str) -> Layout:
        """Returns the columns of a collection or alias.

        Raises:
            ConfigError: there is no such collection.
        """
        described = self.describe(name)
        if described is None:
            raise ConfigError(f"the store has no collection {name}: `penstock ingest` creates it")
        return Layout.from_description(name, described)

    def _refuse_other_models(self, targets: Mapping[Collection, PhysicalCollection], spec: IndexSpec) -> None:
        """Compares encoders first, so that the message names two models wherever it can."""
        served = {collection: self._aliases.served(target.alias) for collection, target in targets.items()}
        for collection, physical in served.items():
            if physical is not None and physical.version == spec.version:
                described = self.describe(str(physical))
                if described is not None:
                    self._check_compatible(str(physical), described["properties"], collection, spec)
        for collection, physical in served.items():
            check_served_version(targets[collection], physical)

    def _ensure_entries(self, collection: Collection, target: PhysicalCollection, spec: IndexSpec) -> None:
        backend, vectors = self._connection.backend, spec.vectors[collection]
        fields = provenance.supported_fields(collection, spec, backend.capabilities)
        missing = [field for field in provenance.required_fields(collection, spec) if field not in fields]
        if missing:
            product = backend.capabilities.product
            logger.warning(
                "%s cannot hold %s of %s: these channels are missing", product, ", ".join(missing), collection
            )
        properties = self._ensure(
            target,
            schema.entries_schema(fields, vectors, backend),
            schema.entries_indexes(fields, vectors, backend, self._index),
            provenance.properties_of(fields, vectors),
            spec,
        )
        self._check_compatible(str(target), properties, collection, spec)
        if Field.LEXICAL in fields and not provenance.is_analysed(properties):
            logger.warning(
                "collection %s is of an older Penstock: words are searched in it as they were then, or not at all; for "
                "words of every language set store.version to a new number and fill new collections beside it",
                target,
            )

    def _check_compatible(
        self, name: str, properties: Mapping[str, str], collection: Collection, spec: IndexSpec
    ) -> None:
        encoders = provenance.from_properties(name, properties)
        provenance.check_compatible(name, encoders, spec.vectors[collection])
        provenance.check_analyzer(name, properties)

    def _ensure(
        self,
        target: PhysicalCollection,
        columns: CollectionSchema,
        indexes: IndexParams,
        recorded: Mapping[str, str],
        spec: IndexSpec,
    ) -> Mapping[str, str]:
        """Returns the properties of the collection as it is now."""
        name = str(target)
        if self.describe(name) is None:
            logger.info("creating collection %s", name)
            self._unless_done(
                f"creating collection {name}",
                lambda client: client.create_collection(
                    name,
                    schema=columns,
                    num_shards=spec.num_shards if self._connection.backend.capabilities.shards else 1,
                    consistency_level=self._consistency,
                    properties=dict(recorded),
                    timeout=self._timeout_s,
                ),
                lambda: self.describe(name) is not None,
            )
        self._create_missing_indexes(name, indexes)
        self._connection.call(
            f"loading collection {name}", lambda client: client.load_collection(name, timeout=self._timeout_s)
        )
        described = self.describe(name)
        if described is None:
            return {}
        provenance.check_labels(name, {column["name"] for column in described["fields"]})
        properties: Mapping[str, str] = described["properties"]
        provenance.check_schema(name, properties)
        return properties

    def _create_alias(self, target: PhysicalCollection) -> None:
        self._unless_done(
            f"creating alias {target.alias}",
            lambda client: client.create_alias(str(target), target.alias, timeout=self._timeout_s),
            lambda: self._aliases.served(target.alias) is not None,
        )

    def _create_missing_indexes(self, name: str, indexes: IndexParams) -> None:
        """Creates the indexes that are missing: all of them, or those that a crash left undone.

        A collection that was created when the profile had fewer models lacks the column itself.
        """
        described = self.describe(name)
        columns = {column["name"] for column in described["fields"]} if described else set()
        existing = self._indexed_columns(name)
        for index in indexes:
            if index.field_name in columns - existing:
                self._create_index(name, index)

    def _create_index(self, name: str, index: IndexParam) -> None:
        params = MilvusClient.prepare_index_params()
        params.append(index)
        self._unless_done(
            f"indexing {index.field_name} of {name}",
            lambda client: client.create_index(name, params, timeout=self._timeout_s),
            lambda: index.field_name in self._indexed_columns(name),
        )

    def _indexed_columns(self, name: str) -> set[str]:
        indexes = self._connection.call_or_none(f"listing indexes of {name}", lambda client: client.list_indexes(name))
        return set(indexes or ())

    def _unless_done(self, doing: str, request: Callable[[MilvusClient], object], done: Callable[[], bool]) -> None:
        """Sends a request that another process may have completed first."""
        try:
            self._connection.call(doing, request)
        except (PermanentError, UnavailableError):
            if not done():
                raise
