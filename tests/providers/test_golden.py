"""Built graphs and preprocessing equal the reference, by figures it gave for tiny random models."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vectable.errors import InvalidInput
from vectable.providers.bert_graph import build_bert
from vectable.providers.clip_graph import Tower, build_clip
from vectable.providers.graph import GRAPH_FILE
from vectable.providers.images import pixels, read_preprocessing
from vectable.providers.runtime import open_session

GOLDEN = Path(__file__).parent / "golden"


def read(name: str, file: str = "golden.json") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / name / file).read_text())
    return content


def padded(ids: list[list[int]], padding: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.full((len(ids), max(map(len, ids))), padding, np.int64)
    mask = np.zeros_like(tokens)
    for row, one in enumerate(ids):
        tokens[row, : len(one)], mask[row, : len(one)] = one, 1
    return tokens, mask


def picture(width: int, height: int) -> bytes:
    """As in make_golden.py."""
    y, x = np.mgrid[:height, :width]
    noise = (x * 7919 + y * 104729) % 61
    planes = [127 + 90 * np.sin(x / 5) + noise / 2, 127 + 90 * np.cos(y / 7), (x * 3 + y * 2 + noise) % 256]
    encoded = io.BytesIO()
    Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("name", ["xlm-roberta", "distilbert", "mpnet"])
def test_encoders_equal_the_reference(name: str, pooling: Any, tmp_path: Path) -> None:
    golden = read(name)
    build_bert(GOLDEN / name / "model.safetensors", read(name, "config.json"), pooling, tmp_path)
    tokens, mask = padded(golden["ids"], 1)
    session = open_session(tmp_path / GRAPH_FILE, 1)
    (found,) = session.run(["embedding"], {"input_ids": tokens, "attention_mask": mask})
    np.testing.assert_allclose(found, golden[pooling], atol=2e-5)


@pytest.mark.parametrize("tower", ["text", "image"])
@pytest.mark.parametrize("name", ["clip", "clip-gelu"])
def test_both_towers_of_clip_equal_the_reference(name: str, tower: Tower, tmp_path: Path) -> None:
    golden = read(name)
    build_clip(GOLDEN / name / "model.safetensors", read(name, "config.json"), tower, tmp_path)
    session = open_session(tmp_path / GRAPH_FILE, 1)
    if tower == "text":
        feed = {"input_ids": padded(golden["ids"], 0)[0]}
    else:
        how = read_preprocessing(GOLDEN / name, 24)
        feed = {"pixel_values": np.stack([pixels(picture(*size), how) for size in golden["sizes"]])}
    (found,) = session.run(["embedding"], feed)
    np.testing.assert_allclose(found, golden[tower + "s"], atol=5e-5)


def test_pixels_equal_the_reference() -> None:
    golden, how = read("clip"), read_preprocessing(GOLDEN / "clip", 24)
    for size, expected in zip(golden["sizes"], golden["pixels"], strict=True):
        np.testing.assert_allclose(pixels(picture(*size), how)[:, ::5, ::5].ravel(), expected, atol=2e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("L", (30, 24), 100)
    wide = Image.fromarray(np.full((24, 30), 100 * 257, np.uint16))
    encoded = io.BytesIO()
    (wide if mode == "I;16" else grey.convert(mode)).save(encoded, "TIFF" if mode == "CMYK" else "PNG")
    how = read_preprocessing(GOLDEN / "clip", 24)
    found = pixels(encoded.getvalue(), how)
    assert found.shape == (3, 24, 24)
    if mode != "1":
        expected = (100 / 255 - np.array(how.mean)) / np.array(how.std)
        np.testing.assert_allclose(found.mean(axis=(1, 2)), expected, atol=0.02)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_what_is_transparent_lies_on_white(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vectable.providers.images._STRIP", 100)
    grey = np.full((31, 40), 90, np.uint8)
    grey[:20] = 0
    image, more = Image.fromarray(grey), {} if "A" in mode else {"transparency": 0}
    if more:
        image = image.convert(mode)
    else:
        image.putalpha(Image.fromarray(np.where(grey == 0, 0, 255).astype(np.uint8)))
    encoded, seen = io.BytesIO(), io.BytesIO()
    image.convert(mode).save(encoded, "PNG", **more)
    Image.fromarray(np.where(grey == 0, 255, 90).astype(np.uint8)).save(seen, "PNG")
    how = read_preprocessing(GOLDEN / "clip", 24)
    np.testing.assert_array_equal(pixels(encoded.getvalue(), how), pixels(seen.getvalue(), how))


def test_the_camera_held_sideways_is_turned_upright() -> None:
    image = Image.open(io.BytesIO(picture(40, 31)))
    turned, exif, encoded = image.transpose(Image.Transpose.ROTATE_90), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    turned.save(encoded, "PNG", exif=exif)
    how = read_preprocessing(GOLDEN / "clip", 24)
    np.testing.assert_array_equal(pixels(encoded.getvalue(), how), pixels(picture(40, 31), how))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no image at all", "not an image"),
        (picture(40, 31)[:200], "damaged|not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
    ],
)
def test_what_is_no_whole_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        pixels(data, read_preprocessing(GOLDEN / "clip", 24))


@pytest.mark.parametrize(("size", "message"), [((9000, 8000), "at most 64 million"), ((1, 60_000), "narrow")])
def test_images_too_large_or_too_narrow_are_refused(size: tuple[int, int], message: str) -> None:
    encoded = io.BytesIO()
    Image.new("1", size).save(encoded, "PNG")
    edge = 224 if size[0] == 1 else 24
    how = read_preprocessing(Path("/nonexistent"), edge)
    with pytest.raises(InvalidInput, match=message):
        pixels(encoded.getvalue(), how)
