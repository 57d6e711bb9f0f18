"""Resolves the physical collections that the calls of a store go to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from penstock.errors import ConfigError
from penstock.records import AUDIBLE_COLLECTIONS, THUMBNAIL_COLLECTIONS, Collection, Field
from penstock.store import provenance
from penstock.store.base import IndexSpec
from penstock.store.milvus.aliases import Aliases
from penstock.store.milvus.provision import Layout, Provisioner
from penstock.store.names import ASSET, PhysicalCollection, asset_collection, entry_collection


class Targets:
    """The names of the collections, and their vector fields.

    After `use_spec` they are the physical collections of its version, also while the aliases still serve another one;
    after `use_version` those of that version; otherwise the aliases.

    Args:
        provisioner, aliases: of the store.
        searched_version: searches go to the collections of this version; None: to the aliases.
    """

    def __init__(self, provisioner: Provisioner, aliases: Aliases, searched_version: int | None = None) -> None:
        self._provisioner = provisioner
        self._aliases = aliases
        self._searched_version = searched_version
        self._searched: dict[Collection, str] = {}
        self._spec: IndexSpec | None = None
        self._pinned: Mapping[str, str] = {}
        self._version: int | None = None
        self._audible: dict[Collection, PhysicalCollection | None] = {}
        self._layouts: dict[str, Layout] = {}
        self._served: dict[Collection, Layout] = {}

    def use_spec(self, spec: IndexSpec) -> None:
        """Selects the physical collections of this specification, which exist."""
        self._spec, self._version = spec, spec.version
        self._audible.clear()

    def use_version(self, version: int, collections: Iterable[Collection]) -> None:
        """Selects the asset rows and these collections of this version, whatever the aliases serve.

        Raises:
            ConfigError: one of them does not exist, and is none that may be absent.
        """
        self._version = version
        self._audible.clear()
        aliases = [ASSET, *(collection.value for collection in collections if self.has(collection))]
        self._pinned = {alias: str(self._aliases.resolve(alias, version)) for alias in aliases}

    @property
    def assets(self) -> str:
        """The collection of asset rows."""
        return self._pinned.get(ASSET, ASSET) if self._spec is None else str(asset_collection(self._spec.version))

    def has(self, collection: Collection) -> bool:
        """Returns whether a collection exists. Only audible ones may be absent; for these the answer is kept."""
        return not self._may_be_absent(collection) or self._physical(collection) is not None

    def _may_be_absent(self, collection: Collection) -> bool:
        return collection in AUDIBLE_COLLECTIONS and (self._spec is None or collection not in self._spec.model_slug)

    def _physical(self, collection: Collection) -> PhysicalCollection | None:
        """Returns the collection of this version that another profile has created: the served one if it is that."""
        if collection not in self._audible:
            served = self._aliases.served(collection.value)
            if self._version is not None and (served is None or served.version != self._version):
                candidates = self._aliases.candidates(collection.value)
                served = next((name for name in candidates if name.version == self._version), None)
            self._audible[collection] = served
        return self._audible[collection]

    def entries(self, collection: Collection) -> str:
        """Returns the name of a collection of entries."""
        if self._may_be_absent(collection) and (physical := self._physical(collection)) is not None:
            return str(physical)
        if self._spec is None or collection not in self._spec.model_slug:
            return self._pinned.get(collection.value, collection.value)
        return str(entry_collection(collection, self._spec.model_slug[collection], self._spec.version))

    def layout(self, collection: Collection) -> Layout:
        """Returns the columns of a collection of entries; cached for physical collections, which do not change."""
        name = self.entries(collection)
        if name in self._layouts:
            return self._layouts[name]
        layout = self._provisioner.layout(name)
        if self._spec is not None:
            self._layouts[name] = layout
        return layout

    def searched(self, collection: Collection) -> str | None:
        """Returns the name that searches go to: the alias, or the collection of the searched version; None: none."""
        if self._searched_version is None:
            return collection.value
        if collection not in self._searched:
            physical = self._of_version(collection, self._searched_version)
            if physical is None:  # not kept: another profile may create it
                return None
            self._searched[collection] = str(physical)
        return self._searched[collection]

    def _of_version(self, collection: Collection, version: int) -> PhysicalCollection | None:
        """Returns the collection of a version: that of the specification, else the served one, else any."""
        spec = self._spec
        if spec is not None and spec.version == version and collection in spec.model_slug:
            return entry_collection(collection, spec.model_slug[collection], version)
        served = self._aliases.served(collection.value)
        if served is not None and served.version == version:
            return served
        candidates = self._aliases.candidates(collection.value)
        return next((name for name in reversed(candidates) if name.version == version), None)

    def searched_layout(self, collection: Collection) -> Layout:
        """Returns the columns of the collection that is searched, as `searchable_fields` saw them last.

        Raises:
            ConfigError: there is no such collection.
        """
        if collection not in self._served:
            self._served[collection] = self._provisioner.layout(self.searched_name(collection))
        return self._served[collection]

    def searched_name(self, collection: Collection) -> str:
        """Returns `searched`. Raises ConfigError if there is no such collection."""
        name = self.searched(collection)
        if name is None:
            raise ConfigError(f"version {self._searched_version} of the index has no collection {collection}")
        return name

    def with_thumbnails(self) -> list[Collection]:
        """Returns the collections whose entries have thumbnails, of those that exist: an older index lacks some."""
        described = {name: self._provisioner.describe(self.entries(name)) for name in sorted(THUMBNAIL_COLLECTIONS)}
        return [collection for collection, description in described.items() if description is not None]

    def searchable_fields(self, collection: Collection) -> Iterator[Field]:
        """Yields the vector fields of a searched collection, except those that another encoder or analyzer filled."""
        name = self.searched(collection)
        described = None if name is None else self._provisioner.describe(name)
        if described is None:
            return
        properties = described["properties"]
        encoders = provenance.from_properties(collection.value, properties)
        layout = self._served[collection] = Layout.from_description(collection.value, described)
        columns = {column["name"] for column in described["fields"]}
        provenance.check_labels(described.get("collection_name", collection.value), columns)
        provenance.check_schema(described.get("collection_name", collection.value), properties)
        vectors = self._spec.vectors.get(collection, {}) if self._spec else {}
        for field in Field:
            if field is Field.LEXICAL and layout.has_terms and not provenance.is_analysed(properties):
                continue
            if field.value in columns and provenance.is_filled_by(vectors.get(field), encoders.get(field)):
                yield field
