"""Image columns with real encoders: found by text and by image through tables, and through an Embedder."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import vectable
from tests.providers.clip_forms import write_clip
from tests.providers.test_golden import picture, read
from vectable import Database, Embedder
from vectable.errors import InvalidInput, Unsupported

GOLDEN = read("clip-whole")
PICTURES = {f"p{i}": picture(*size) for i, size in enumerate(GOLDEN["sizes"])}
EFFICIENTNET = "ml-illustrated/efficientnet-lite0"
Drawing = Callable[[ImageDraw.ImageDraw, int, int], None]


@pytest.fixture(params=["memory", "sqlite"])
def db(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("VECTABLE_FAKE_EMBEDDINGS", "0")
    url = "memory:" if request.param == "memory" else str(tmp_path / "db")
    with vectable.connect(url, cache_dir=str(tmp_path / "cache")) as opened:
        yield opened


def cosines(one: list[float], others: list[list[float]]) -> np.ndarray:
    rows = np.array(others)
    return rows @ np.array(one) / np.linalg.norm(rows, axis=1) / np.linalg.norm(one)


def test_images_are_found_by_text_and_by_image(db: Database, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip")
    table = db.create_table("pictures", {"photo": "image"})
    table.insert([{"id": name, "photo": data} for name, data in PICTURES.items()])
    table.add_embedding_column("look", source="photo", model=str(clip))
    for text, vector in zip(GOLDEN["given"][:3], GOLDEN["texts"], strict=False):
        expected = cosines(vector, GOLDEN["images"])
        hits = list(table.search(text, on="look", limit=len(PICTURES)))
        assert [hit["id"] for hit in hits] == [f"p{i}" for i in np.argsort(-expected)]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(expected)[::-1], atol=1e-4)
    for i, vector in enumerate(GOLDEN["images"]):
        expected = cosines(vector, GOLDEN["images"])
        hits = list(table.search(PICTURES[f"p{i}"], on="look", limit=len(PICTURES)))
        assert [hit["id"] for hit in hits] == [f"p{j}" for j in np.argsort(-expected)]
        assert hits[0].score == pytest.approx(1, abs=1e-6)


def test_texts_and_images_share_one_space_in_an_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTABLE_FAKE_EMBEDDINGS", "0")
    with Embedder(write_clip(tmp_path / "clip"), cache_dir=str(tmp_path)) as embedder:
        texts = embedder.encode(GOLDEN["given"][:3], normalize=False)
        images = embedder.encode_images(list(PICTURES.values()), normalize=False)
        np.testing.assert_allclose(texts, GOLDEN["texts"][:3], atol=5e-5)
        np.testing.assert_allclose(images, GOLDEN["images"], atol=5e-5)
        found = vectable.similarity(embedder.encode("a cat"), embedder.encode_images(list(PICTURES.values())))
        assert len(found) == len(PICTURES)
        with pytest.raises(InvalidInput, match="image 1"):
            embedder.encode_images([PICTURES["p0"], picture(40, 31)[:300]])


def draw(what: Drawing, size: int, background: str) -> bytes:
    """A motif at another size before another background is another file of the same thing."""
    image = Image.new("RGB", (size * 3 // 2, size), background)
    what(ImageDraw.Draw(image), size * 3 // 4, size)
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def daisy(pen: ImageDraw.ImageDraw, x: int, size: int) -> None:
    for step in range(12):
        angle, r = step * np.pi / 6, size * 0.28
        dx, dy, e = r * np.cos(angle), r * np.sin(angle), size * 0.09
        pen.ellipse((x + dx - e, size / 2 + dy - e, x + dx + e, size / 2 + dy + e), fill="white")
    pen.ellipse((x - size * 0.15, size * 0.35, x + size * 0.15, size * 0.65), fill="gold")


def checkers(pen: ImageDraw.ImageDraw, x: int, size: int) -> None:
    cell = size // 8
    for row in range(8):
        for column in range(8):
            corner = (x - size // 2 + column * cell, row * cell)
            fill = "black" if (row + column) % 2 else "white"
            pen.rectangle((*corner, corner[0] + cell, corner[1] + cell), fill=fill)


def house(pen: ImageDraw.ImageDraw, x: int, size: int) -> None:
    pen.rectangle((x - size * 0.3, size * 0.45, x + size * 0.3, size * 0.9), fill="firebrick")
    pen.polygon(
        [(x - size * 0.38, size * 0.45), (x, size * 0.12), (x + size * 0.38, size * 0.45)], fill="brown"
    )
    pen.rectangle((x - size * 0.07, size * 0.65, x + size * 0.07, size * 0.9), fill="black")


def test_the_offline_encoder_finds_what_looks_alike(db: Database) -> None:
    motifs: list[Drawing] = [daisy, checkers, house]
    table = db.create_table("drawings", {"photo": "image"})
    table.insert([{"id": motif.__name__, "photo": draw(motif, 240, "seagreen")} for motif in motifs])
    table.add_embedding_column("look", source="photo", model=EFFICIENTNET)
    for motif in motifs:
        hits = list(table.search(draw(motif, 180, "steelblue"), limit=3))
        assert hits[0]["id"] == motif.__name__, [(hit["id"], hit.score) for hit in hits]
    with pytest.raises(Unsupported, match="does not embed texts"):
        list(table.search("a flower"))


def test_a_bad_image_costs_the_others_nothing(db: Database) -> None:
    table = db.create_table("drawings", {"photo": "image"})
    cut = draw(house, 60, "white")[:200]
    table.insert([{"id": "good", "photo": draw(house, 60, "white")}, {"id": "bad", "photo": cut}])
    table.add_embedding_column("look", source="photo", model=EFFICIENTNET)
    states = table.states("look")
    assert (states["ready"], states["error"]) == (1, 1)


def test_a_text_column_cannot_have_an_encoder_of_images(db: Database) -> None:
    table = db.create_table("texts", {"title": "string"})
    with pytest.raises(Unsupported, match="does not embed texts"):
        table.add_embedding_column("look", source="title", model=EFFICIENTNET)
