"""Embedding columns: added to a table with rows, listed with the states of their cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vectable.core.context import Context
from vectable.core.recipe import check_template, source_template
from vectable.core.schema import Column, ColumnType, Embedding, Metric, Table, Version, check_name
from vectable.engine.catalog import Catalog
from vectable.engine.definitions import RESERVED, check_if_exists, check_new_column, parse_index_option
from vectable.engine.embed import Embedder
from vectable.engine.leases import Leases
from vectable.engine.refresh import Refresher
from vectable.errors import AlreadyExists, InvalidInput, Unsupported
from vectable.interfaces import Backend


class EmbeddingColumns:
    """Adds and lists computed vector columns."""

    def __init__(
        self, backend: Backend, catalog: Catalog, embedder: Embedder, refresher: Refresher, leases: Leases
    ) -> None:
        self._backend = backend
        self._catalog = catalog
        self._embedder = embedder
        self._refresher = refresher
        self._leases = leases

    async def add(
        self,
        context: Context,
        table_name: str,
        column_name: str,
        *,
        source_column: str | None = None,
        template: str | None = None,
        model: str | None = None,
        metric: str = "cosine",
        auto_update: bool = True,
        cache: bool = True,
        index: str = "auto",
        if_exists: str = "error",
    ) -> tuple[Table, Column, str | None]:
        """A new embedding column, and the job that embeds the rows there are (None: done already).
        Exactly one of `source_column` and `template` is given. With `if_exists="ok"` an equal column is
        returned as it is. Raises AlreadyExists, UnknownColumn, InvalidInput, ModelNotFound,
        ModelUnavailable."""
        check_if_exists(if_exists)
        table = await self._catalog.get(context, table_name)
        column = await self.prepared(
            table,
            column_name,
            source_column=source_column,
            template=template,
            model=model,
            metric=metric,
            auto_update=auto_update,
            cache=cache,
            index=index,
        )
        version = column.version
        existing = next((c for c in table.columns if c.name == column_name), None)
        if existing is not None and if_exists == "ok":
            return table, _same(table, existing, column), None
        check_new_column(table, column)
        # Owed from the moment the column is there, so that a crash before the backfill loses nothing.
        owed, note = self._refresher.owe_backfill(table, column)
        table = await self._catalog.change(
            table.id,
            "stage_version",
            lambda t: (*t.columns, check_new_column(t, column)),
            column=column,
            version=version,
            notes={owed: note},
        )
        return table, column, await self._refresher.backfill(table, column, owed)

    async def prepared(
        self,
        table: Table,
        column_name: str,
        *,
        source_column: str | None = None,
        template: str | None = None,
        model: str | None = None,
        metric: str = "cosine",
        auto_update: bool = True,
        cache: bool = True,
        index: str = "auto",
    ) -> Column:
        """An embedding column that `table` could have, which is not there yet. Raises what `add` raises."""
        check_name(column_name, "column")
        if column_name in RESERVED:
            raise InvalidInput(
                f"{column_name!r} is what a hit's own field is called", hint="choose another name"
            )
        rendered = _template(table, source_column, template)
        kind = "image" if check_template(rendered, table) else "text"
        wanted_metric = Metric.parse(metric)
        provider = await self._embedder.models.provider(model)
        if kind not in provider.modalities:
            raise Unsupported(
                f"model {provider.model.id} does not embed {kind}s",
                hint=f"it takes {' and '.join(sorted(provider.modalities))}",
            )
        version = Version(
            dimensions=provider.dimensions,
            metric=wanted_metric,
            identity=str(provider.model),
            prompt=provider.prompt("document"),
            normalized=provider.normalizes,
        )
        return Column(
            name=column_name,
            type=ColumnType.VECTOR,
            embedding=Embedding(
                model=self._embedder.models.canonical_name(model),
                source=source_column,
                template=rendered,
                auto_update=auto_update,
                cache=cache,
            ),
            versions=(version,),
            active=version.id,
            index=parse_index_option(index),
        )

    async def list(self, context: Context, table_name: str) -> list[tuple[Column, Mapping[str, int]]]:
        """Every embedding column with the number of its cells in each state; `in_progress` counts those
        waiting while somebody works on the column."""
        table = await self._catalog.get(context, table_name)
        return [(c, await self.states(table, c)) for c in table.vector_columns if c.embedding is not None]

    async def states(self, table: Table, column: Column) -> dict[str, int]:
        """The number of the column's cells in each state, `in_progress` included."""
        async with self._catalog.view(table) as view:
            counts = await view.cell_states(column.version.id)
        working = await self._leases.held(f"embed/{column.version.id}")
        waiting = counts.get("new", 0) + counts.get("stale", 0)
        return {**counts, "in_progress": waiting if working else 0}


def _template(table: Table, source_column: str | None, template: str | None) -> str:
    if (source_column is None) == (template is None):
        raise InvalidInput(
            "give either a source column or a template",
            hint='e.g. the column "teaches", or the template "{title}\\n{teaches}"',
        )
    if template is not None:
        return template
    return source_template(table.column(str(source_column)))


def _same(table: Table, existing: Column, wanted: Column) -> Column:
    def facts(column: Column) -> tuple[Any, ...]:
        embedding = column.embedding
        if embedding is None:
            return ()
        version = column.version
        return (embedding.template, version.identity, version.metric, embedding.auto_update, embedding.cache)

    if facts(existing) != facts(wanted):
        raise AlreadyExists(
            f"table {table.full_name!r} has another column {existing.name!r}",
            hint="drop it first, or choose another name",
        )
    return existing
