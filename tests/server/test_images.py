"""Images over HTTP: in the body, as files of a form, from the media root, by address; and in batches."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.server.live import Live, live_server
from tests.server.test_envelope import check_problem

CLIP = "openai/clip-vit-base-patch32"


def png(color: str = "red", size: tuple[int, int] = (8, 6)) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", size, color).save(encoded, "PNG")
    return encoded.getvalue()


def inline(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{inline(data)['base64']}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("around")
    media = top / "media"
    (media / "cats").mkdir(parents=True)
    (media / "cats" / "tom.png").write_bytes(png())
    (media / "notes.txt").write_text("not an image")
    (media / "empty.png").write_bytes(b"")
    (top / "secret.png").write_bytes(png("blue"))
    (media / "way-out.png").symlink_to(top / "secret.png")
    (media / "within.png").symlink_to(media / "cats" / "tom.png")
    os.mkfifo(media / "pipe.png")
    with open(media / "huge.png", "wb") as huge:
        huge.truncate((32 << 20) + 1)
    return media


@pytest.fixture(scope="module")
def live(root: Path) -> Iterator[Live]:
    with live_server("memory:", fake_embeddings=True, image_model=CLIP, media_root=str(root)) as server:
        yield server


@pytest.fixture
def api(live: Live) -> httpx.Client:
    return live.client


def ask(api: httpx.Client, *images: Any, **more: Any) -> httpx.Response:
    return api.post("/embed/image", json={"images": list(images), **more})


def test_every_form_of_an_image_gives_its_vector(api: httpx.Client) -> None:
    data = png()
    answer = ask(api, inline(data), uri(data), "cats/tom.png", "cats/../cats/tom.png", "within.png")
    found = answer.json()
    assert answer.status_code == 200, answer.text
    assert set(found) == {"embeddings", "model", "dimensions", "processingTime", "cached"}
    assert np.shape(found["embeddings"]) == (5, 512)
    assert all(vector == found["embeddings"][0] for vector in found["embeddings"])
    assert np.linalg.norm(found["embeddings"][0]) == pytest.approx(1, abs=1e-6)
    assert ask(api, uri(data)).json()["cached"] is True
    other = ask(api, inline(png("green")), model=CLIP, encoding_format="base64").json()
    assert other["model"] == found["model"]
    assert other["embeddings"][0].keys() == {"base64"}


def test_files_of_a_form(api: httpx.Client) -> None:
    files = [("images", ("a.png", png(), "image/png")), ("more", ("b.png", png("blue"), "image/png"))]
    fields = {"normalize": "false", "model": CLIP}
    answer = api.post("/embed/image", files=files, data=fields)
    assert answer.status_code == 200, answer.text
    wanted = ask(api, inline(png()), inline(png("blue")), normalize=False).json()
    assert answer.json()["embeddings"] == wanted["embeddings"]


def test_forms_that_are_none(api: httpx.Client) -> None:
    one = [("images", ("a.png", png(), "image/png"))]
    check_problem(api.post("/embed/image", files=one, data={"normalize": "maybe"}), 400, "invalid-input")
    check_problem(api.post("/embed/image", files=one, data={"nonsense": "1"}), 400, "invalid-input")
    check_problem(api.post("/embed/image", files=one * 101), 400, "invalid-input")
    for content, kind in (
        (b"nonsense", "multipart/form-data"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"--x\r\nnonsense\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
    ):
        answer = api.post("/embed/image", content=content, headers={"Content-Type": kind})
        check_problem(answer, 400, "invalid-input")
    plain = api.post("/embed/image", content=b"x", headers={"Content-Type": "image/png"})
    check_problem(plain, 415, "unsupported-media-type")


def test_the_image_that_is_none_is_named(api: httpx.Client) -> None:
    good = inline(png())
    torn, bomb = png(size=(64, 64))[:-30], png(size=(9_000, 9_000))
    bad: list[Any] = [
        inline(b"not an image"),
        inline(torn),
        inline(bomb),
        inline(b""),
        {"base64": "%%%"},
        {"base64": 7},
        {"image": "x"},
        "data:image/png;base64,%%%",
        "data:image/png,plain",
        "",
        7,
        None,
        ["x"],
        "notes.txt",
        "empty.png",
    ]
    for image in bad:
        problem = check_problem(ask(api, good, image), 400, "invalid-input")
        assert problem["detail"].startswith("image 1: "), problem["detail"]
        assert len(problem["error"]) < 600
    assert "no base64" in ask(api, "data:image/png,plain").json()["detail"]


def test_nothing_leaves_the_media_root(api: httpx.Client, root: Path) -> None:
    names = [
        "../secret.png",
        "cats/../../secret.png",
        str(root.parent / "secret.png"),
        str(root / "cats" / "tom.png"),
        "way-out.png",
        "cats",
        ".",
        "pipe.png",
        "nowhere.png",
        "tom\x00.png",
        "x" * 5_000,
        "file:///etc/passwd",
        "~/secret.png",
    ]
    for name in names:
        problem = check_problem(ask(api, name), 400, "invalid-input")
        assert "in the media root" in problem["detail"], "no word of what there is elsewhere"
        assert str(root.parent) not in problem["detail"].replace(name, "")
    check_problem(ask(api, "huge.png"), 400, "invalid-input")


def test_bodies_that_are_none(api: httpx.Client) -> None:
    good = inline(png())
    for body in (
        {},
        {"images": []},
        {"images": good},
        {"images": [good] * 101},
        {"images": [good], "model": "../etc"},
        {"images": [good], "normalize": "yes"},
        {"images": [good], "x": 1},
    ):
        check_problem(api.post("/embed/image", json=body), 400, "invalid-input")
    check_problem(ask(api, good, model="all-MiniLM-L6-v2"), 422, "unsupported")
    check_problem(ask(api, good, model="no/such"), 404, "model-not-found")


def test_what_is_not_configured_is_refused() -> None:
    with live_server("memory:", fake_embeddings=True, image_model="") as bare:
        problem = check_problem(ask(bare.client, inline(png())), 400, "invalid-input")
        assert "no image model" in problem["detail"]
        assert ask(bare.client, inline(png()), model=CLIP).status_code == 200
        for image in ("cats/tom.png", "http://example.com/a.png", "https://example.com/a.png"):
            problem = check_problem(ask(bare.client, image, model=CLIP), 400, "invalid-input")
            assert problem["hint"]


def test_addresses_of_this_network_are_refused(root: Path) -> None:
    with live_server("memory:", fake_embeddings=True, image_model=CLIP, image_urls=True) as server:
        port = server.url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0"):
            problem = check_problem(ask(server.client, f"http://{host}:{port}/health"), 400, "invalid-input")
            assert "not on the public internet" in problem["detail"]


def test_images_together_are_no_longer_than_a_body_may_be(api: httpx.Client, root: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (2_000, 2_000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "noise.png")
    assert (root / "noise.png").stat().st_size > 8 << 20
    check_problem(ask(api, *["noise.png"] * 9), 413, "too-large")


def test_a_batch_of_texts_and_images(api: httpx.Client) -> None:
    items = [{"text": "a cat"}, {"image": "cats/tom.png"}, {"text": "a dog"}, {"image": uri(png("blue"))}] * 3
    answer = api.post("/embed/batch", json={"items": items, "batchSize": 5})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    names = {"embeddings", "model", "totalItems", "batchesProcessed", "totalTime", "avgTimePerItem", "items"}
    assert set(found) == names
    assert (found["totalItems"], found["batchesProcessed"]) == (12, 3)
    assert found["avgTimePerItem"] == pytest.approx(found["totalTime"] / 12, rel=1e-3)
    assert [set(each) for each in found["items"]] == [{"model", "dimensions"}] * 12
    assert [each["dimensions"] for each in found["items"]] == [384, 512] * 6
    assert [len(vector) for vector in found["embeddings"]] == [384, 512] * 6
    texts = api.post("/embed/text", json={"texts": ["a cat", "a dog"]}).json()
    assert found["model"] == texts["model"] == found["items"][0]["model"]
    assert [found["embeddings"][i] for i in (0, 2)] == texts["embeddings"]
    images = ask(api, "cats/tom.png", inline(png("blue"))).json()["embeddings"]
    assert [found["embeddings"][i] for i in (1, 3)] == images
    assert found["embeddings"][:4] == found["embeddings"][4:8]


def test_batches_that_are_none(api: httpx.Client) -> None:
    for body in (
        {},
        {"items": []},
        {"items": [{"text": "a"}] * 1_001},
        {"items": [{"text": ""}]},
        {"items": [{}]},
        {"items": ["a"]},
        {"items": [{"text": "a", "image": "b"}]},
        {"items": [{"text": "a"}], "batchSize": 0},
        {"items": [{"text": "a"}], "batchSize": 1.5},
        {"items": [{"text": "a"}], "x": 1},
    ):
        check_problem(api.post("/embed/batch", json=body), 400, "invalid-input")
    bad = [{"text": "a"}, {"text": "b"}, {"image": inline(png())}, {"image": inline(b"none")}]
    problem = check_problem(
        api.post("/embed/batch", json={"items": bad, "batchSize": 3}), 400, "invalid-input"
    )
    assert problem["detail"].startswith("item 3: ")


def test_a_clip_model_embeds_texts_with_its_text_tower(api: httpx.Client) -> None:
    found = api.post("/embed/text", json={"texts": ["a cat"], "model": CLIP}).json()
    assert found["dimensions"] == 512
    assert CLIP in found["model"]


def test_a_real_image_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECTABLE_FAKE_EMBEDDINGS", raising=False)
    model = "ml-illustrated/efficientnet-lite0"
    noise = np.random.default_rng(2).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "JPEG", quality=95)
    with live_server("memory:", fake_embeddings=False, image_model=model) as server:
        images = [inline(png("red", (64, 48))), inline(png("red", (70, 50))), inline(encoded.getvalue())]
        found = ask(server.client, *images).json()
        alike = server.client.post(
            "/similarity", json={"query": found["embeddings"][0], "candidates": found["embeddings"][1:]}
        ).json()["results"]
        assert [match["index"] for match in alike] == [0, 1], "what looks alike is near"
        torn = png("red", (64, 48))[:-30]
        problem = check_problem(ask(server.client, images[0], inline(torn)), 400, "invalid-input")
        assert problem["detail"].startswith("image 1: ")
        text = server.client.post("/embed/text", json={"texts": ["a cat"], "model": model})
        check_problem(text, 422, "unsupported")
