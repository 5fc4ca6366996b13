"""A table that others own, enriched: searched as any, kept up with, never changed, and let go of."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.attach.conftest import Owner, dump, until
from vectable import AsyncDatabase, AsyncTable, connect, connect_async
from vectable.backends.postgres import PostgresBackend
from vectable.drivers.postgres import Address
from vectable.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    ModelNotFound,
    TableNotFound,
    UnknownColumn,
    Unsupported,
)

BOOKS = """
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE TABLE shop.books (
    shelf int2, id uuid DEFAULT gen_random_uuid(), title text NOT NULL, blurb varchar(200),
    price numeric(10, 2), mood shop.mood, tags text[], meta jsonb, read int NOT NULL DEFAULT 0,
    PRIMARY KEY (shelf, id), CHECK (price > 0));
CREATE INDEX ON shop.books (price);
INSERT INTO shop.books (shelf, title, blurb, price, mood, tags, meta)
SELECT n, 'Book ' || n, 'about ' || n % 7, n, 'good', '{a,b}', '{"pages": 100}'
FROM generate_series(1, 40) AS n"""


@pytest.fixture
async def books(database: AsyncDatabase, owner: Owner) -> AsyncTable:
    await owner.execute(BOOKS)
    return await database.attach("shop.books", embed="{title} {blurb}", column="meaning")


async def title_of(table: AsyncTable, text: str) -> str:
    (hit,) = await table.search(text, limit=1)
    return str(hit["title"])


async def found(table: AsyncTable, text: str, title: str) -> None:
    """Waits until a search for `text` finds the book called `title` first."""

    async def check() -> bool:
        hits = await table.search(text, limit=1)
        return len(hits) == 1 and hits[0]["title"] == title and hits[0].score == pytest.approx(1)

    await until(check)


async def has_row(table: AsyncTable, shelf: int) -> None:
    async def check() -> bool:
        return await table.where(table.shelf == shelf).count() == 1

    await until(check)


async def settled(table: AsyncTable, rows: int) -> None:
    """Waits until there are `rows`, each with its vector."""

    async def check() -> bool:
        states = await table.states("meaning")
        return states["ready"] == rows == await table.count() and sum(states.values()) == rows

    await until(check)


async def test_it_is_searched_filtered_and_explained_as_any_table(books: AsyncTable) -> None:
    assert [c.name for c in books.definition.key_columns] == ["shelf", "id"]
    hits = await books.search("Book 5 about 5", limit=3)
    assert (hits[0]["title"], hits[0]["price"], hits[0]["mood"]) == ("Book 5", 5.0, "good")
    assert hits[0]["tags"] == ["a", "b"]
    assert hits[0].score == pytest.approx(1)
    matching = books.where(books.price > 30).where("meta.pages = ?", 100)
    assert await matching.count() == 10
    assert len(await matching.similar("Book 5 about 5").limit(20).collect()) == 10
    assert (await matching.similar("Book").explain()).rows_matching == 10
    row = await books.get((5, hits[0]["id"]))
    assert row["meta"] == {"pages": 100}
    filled = await books.refresh("meaning", force=True)
    assert filled.states["ready"] == 40


async def test_plain_sql_is_noticed_and_stale_vectors_are_never_served(
    books: AsyncTable, owner: Owner
) -> None:
    # Where changes are published, tables without a key may not be updated: ours, too.
    await owner.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    assert await title_of(books, "Book 5 about 5") == "Book 5"
    await owner.execute("UPDATE shop.books SET title = 'Sailing alone' WHERE shelf = 5")
    # Whether it has been noticed by now or not: its old vector is no hit any more.
    assert await title_of(books, "Book 5 about 5") != "Sailing alone"
    exact = await books.similar("Book 5 about 5", exact=True).limit(1).collect()
    assert exact[0]["title"] != "Sailing alone"
    await found(books, "Sailing alone about 5", "Sailing alone")
    await owner.execute(
        "INSERT INTO shop.books (shelf, title, blurb) VALUES (99, 'Bread', 'at home');"
        "DELETE FROM shop.books WHERE shelf <= 10"
    )
    await found(books, "Bread at home", "Bread")
    await settled(books, 31)
    await owner.execute("TRUNCATE shop.books")
    await settled(books, 0)
    assert len(await books.search("Bread at home")) == 0


async def test_keys_are_read_alike_whatever_a_database_has_set(owner: Owner, postgres_url: str) -> None:
    """Else keys would be other texts to another role, and floats that differ would be one."""
    await owner.execute(
        "CREATE DOMAIN day AS date;"
        "CREATE TABLE public.books (d day, x float8, title text, PRIMARY KEY (d, x));"
        "INSERT INTO books SELECT date '2024-12-31' + n, n / 1e6 + 1, 'Book ' || n"
        " FROM generate_series(1, 9) AS n"
    )
    for setting in (
        "datestyle = 'German, DMY'",
        "extra_float_digits = -10",
        "standard_conforming_strings = off",
    ):
        name = await owner.fetchval("SELECT quote_ident(current_database())")
        await owner.execute(f"ALTER DATABASE {name} SET {setting}")
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        books = await database.attach("books", embed="title", column="meaning")
        await settled(books, 9)
        other = await asyncpg.connect(**Address.parse(postgres_url).arguments)
        assert await other.fetchval("SELECT d::text FROM books WHERE title = 'Book 1'") == "01.01.2025"
        await other.execute("UPDATE books SET title = 'Sailing alone' WHERE title = 'Book 1'")
        await other.close()
        await found(books, "Sailing alone", "Sailing alone")
        await settled(books, 9)
        days = [row["d"] async for row in books.order_by("d").stream()]
        assert days == [f"2025-01-0{n}" for n in range(1, 10)]


async def test_an_unrelated_change_hides_nothing(books: AsyncTable, owner: Owner) -> None:
    await owner.execute("UPDATE shop.books SET read = read + 1")
    hits = await books.where(books.read == 1).similar("Book 5 about 5").limit(40).collect()
    assert len(hits) == 40


async def test_their_values_are_read_by_one_statement_as_they_are_now(
    books: AsyncTable, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settled(books, 40)
    page = books.where(books.shelf > 20).order_by("-price").select("title").limit(2)
    await page.collect()
    views: list[object] = []
    monkeypatch.setattr(PostgresBackend, "view", lambda self, *asked: views.append(asked))
    assert [row["title"] for row in await page.collect()] == ["Book 40", "Book 39"]
    await owner.execute("UPDATE shop.books SET title = 'Renamed', price = price + 100 WHERE shelf = 21")
    assert [row["title"] for row in await page.collect()] == ["Renamed", "Book 40"]
    await owner.execute("DELETE FROM shop.books WHERE shelf = 21")
    assert [row["title"] for row in await page.collect()] == ["Book 40", "Book 39"]
    assert await books.where(books.shelf > 20).count() == 19
    assert views == []
    monkeypatch.undo()
    await owner.execute("ALTER TABLE shop.books RENAME TO volumes")
    await owner.execute("ALTER TABLE shop.volumes RENAME TO books")
    await owner.execute("ALTER TABLE shop.books ALTER price TYPE numeric(12, 4)")
    assert [row["title"] for row in await page.collect()] == ["Book 40", "Book 39"]


async def test_their_rows_and_columns_are_not_ours_to_change(
    books: AsyncTable, database: AsyncDatabase
) -> None:
    writes = [
        books.insert({"shelf": 1, "title": "x"}),
        books.update(("shelf = ?", 1), {"title": "x"}),
        books.delete(("shelf = ?", 1)),
        books.add_column("more", "string"),
        books.drop_column("price"),
        books.create_index("price", "btree"),
        database.drop_table("books"),
    ]
    for write in writes:
        with pytest.raises(Unsupported) as refused:
            await write
        assert refused.value.hint


async def test_attaching_again_adds_what_is_missing(
    books: AsyncTable, database: AsyncDatabase, postgres_url: str
) -> None:
    again = await database.attach("shop.books", embed="{title} {blurb}", column="meaning")
    assert again.definition.id == books.definition.id
    more = await database.attach("shop.books", embed="title")
    assert [c.name for c in more.definition.vector_columns] == ["meaning", "title_embedding"]
    assert (await more.states("title_embedding"))["ready"] == 40
    with pytest.raises(AlreadyExists, match="attached already"):
        await database.attach("shop.books", name="others")
    await more.drop_column("title_embedding")
    described = await more.describe()
    assert described["attached"] == {
        "schema": "shop",
        "table": "books",
        "told": True,
        "views": {"meaning": "vectable.books_meaning"},
    }


async def test_vectors_are_joined_with_plain_sql(books: AsyncTable, owner: Owner) -> None:
    sql = (
        "SELECT b.title, m.status, m.vector IS NOT NULL FROM shop.books b"
        " JOIN vectable.books_meaning m USING (shelf, id) WHERE b.shelf = 5"
    )
    assert tuple(await owner.fetchrow(sql)) == ("Book 5", "ready", True)
    nearest = await owner.fetchval(
        "SELECT o.shelf FROM vectable.books_meaning m, vectable.books_meaning o WHERE m.shelf = 5"
        " ORDER BY m.vector OPERATOR(public.<=>) o.vector LIMIT 1"
    )
    assert nearest == 5
    # Their owner may change the table as before: nothing of ours stands on it.
    await owner.execute("ALTER TABLE shop.books DROP COLUMN meta, ALTER COLUMN blurb TYPE text")


async def test_detaching_leaves_nothing_of_ours(
    database: AsyncDatabase, owner: Owner, postgres_url: str
) -> None:
    await owner.execute(BOOKS)
    before, rows = dump(postgres_url), await owner.fetch("SELECT * FROM shop.books ORDER BY shelf")
    await database.attach("shop.books", embed="title")
    assert dump(postgres_url) != before
    with pytest.raises(TableNotFound):
        await database.detach("nothing")
    await database.detach("books")
    assert dump(postgres_url) == before
    assert await owner.fetch("SELECT * FROM shop.books ORDER BY shelf") == rows
    assert await database.tables() == []
    await database.attach("shop.books", embed="title")
    await owner.execute("DROP SCHEMA shop CASCADE")
    await database.detach("books")


async def test_what_is_ours_goes_with_the_last_who_has_the_database_open(
    owner: Owner, postgres_url: str
) -> None:
    """Also where that is not who detached the table, or who did was killed before it could clear up; and
    whatever they call their connections."""
    await owner.execute("DROP EXTENSION vector;" + BOOKS)
    before = dump(postgres_url)
    first = await connect_async(f"{postgres_url} application_name=first", fake_embeddings=True)
    async with await connect_async(postgres_url, fake_embeddings=True) as second:
        await second.attach("shop.books", embed="title")
        await second.detach("books")
    assert dump(postgres_url) != before
    assert await first.tables() == []
    await first.close()
    assert dump(postgres_url) == before
    async with await connect_async(postgres_url, fake_embeddings=True) as database:
        await database.attach("shop.books", embed="title")
        await database.detach("books")
        await database.create_table("mine", {"title": "string"})
        await database.drop_table("mine")
    assert dump(postgres_url) != before  # what was made since is no business of the table that was let go of


async def test_what_cannot_be_attached_is_said_before_anything_is_made(
    database: AsyncDatabase, owner: Owner, postgres_url: str
) -> None:
    await owner.execute(BOOKS + "; CREATE VIEW shop.seen AS SELECT 1 AS a; CREATE TABLE shop.loose (a int)")
    await database.create_table("mine", {"title": "string"})
    before = dump(postgres_url)
    for name, error in (("shop.seen", Unsupported), ("shop.loose", Unsupported), ("shop.boks", TableNotFound),
                        ("mine", Conflict)):  # fmt: skip
        with pytest.raises(error):
            await database.attach(name)
    with pytest.raises(UnknownColumn):
        await database.attach("shop.books", embed="titel")
    with pytest.raises(InvalidInput):
        await database.attach("shop.books", embed="meta")
    with pytest.raises(InvalidInput):
        await database.attach("shop.books", model="x")
    with pytest.raises(ModelNotFound):
        await database.attach("shop.books", embed="title", model="no/such-model")
    with pytest.raises(AlreadyExists):
        await database.attach("shop.books", embed="title", name="mine")
    assert dump(postgres_url) == before
    with pytest.raises(InvalidInput, match="not attached"):
        await database.detach("mine")
    async with await connect_async("memory:") as memory:
        with pytest.raises(Unsupported, match="PostgreSQL"):
            await memory.attach("books")


async def test_a_wider_key_and_new_columns_are_followed(
    books: AsyncTable, database: AsyncDatabase, owner: Owner
) -> None:
    await owner.execute(
        "ALTER TABLE shop.books ALTER shelf TYPE bigint, ADD summary text DEFAULT 'short', ADD meaning text"
    )
    with pytest.raises(UnknownColumn):
        await books.add_embedding_column("more", source="summary")
    again = await database.attach("shop.books", embed="summary")
    assert again.definition.id == books.definition.id
    names = [c.name for c in again.definition.columns]
    assert "summary" in names
    assert sum(name.startswith("meaning_") for name in names) == 1
    assert (await again.states("summary_embedding"))["ready"] == 40
    await owner.execute("INSERT INTO shop.books (shelf, title) VALUES (5000000000, 'Far away')")
    await has_row(again, 5_000_000_000)
    await owner.execute("ALTER TABLE shop.books DROP CONSTRAINT books_pkey, ADD PRIMARY KEY (title)")
    with pytest.raises(Conflict, match="key"):
        await database.attach("shop.books")


async def test_a_table_of_that_name_is_refused_and_may_be_attached(
    database: AsyncDatabase, owner: Owner
) -> None:
    await owner.execute("CREATE TABLE public.talks (id int PRIMARY KEY, title text)")
    with pytest.raises(Conflict, match="not Vectable's") as refused:
        await database.create_table("talks", {"title": "string"})
    assert "vectable attach" in str(refused.value.hint)
    # What was refused is given up: it stands in nobody's way.
    assert await database.tables() == []
    assert (await database.attach("talks")).full_name == "talks"


async def test_their_owner_may_rename_and_rebuild_the_table(books: AsyncTable, owner: Owner) -> None:
    await owner.execute(
        "ALTER TABLE shop.books RENAME title TO heading; ALTER TABLE shop.books RENAME TO tomes"
    )
    hits = await books.search("Book 5 about 5", limit=1)
    assert hits[0]["title"] == "Book 5"
    await owner.execute("UPDATE shop.tomes SET heading = 'Sailing alone' WHERE shelf = 5")
    await found(books, "Sailing alone about 5", "Sailing alone")


def test_blocking(postgres_url: str) -> None:
    asyncio.run(_execute(postgres_url, BOOKS))
    with connect(postgres_url, fake_embeddings=True) as database:
        books = database.attach("shop.books", embed="title", name="library")
        assert books.search("Book 5", limit=1)[0]["title"] == "Book 5"
        database.detach("library")
        assert database.tables() == []


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(**Address.parse(url).arguments)
    await connection.execute(sql)
    await connection.close()
