"""Search images by image, and by text. The images are drawn here, so that nothing has to be fetched.

    python examples/python/image_search.py [model]

Offline, images are compared by how they look (EfficientNet-Lite0, a small network that knows no text), and a
text finds them by their captions. With the name or the directory of a CLIP model, texts find the pictures
themselves:

    python examples/python/image_search.py openai/clip-vit-base-patch32
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from random import Random
from typing import Any

from PIL import Image, ImageDraw

import vectable

SIZE = 256
Draw = ImageDraw.ImageDraw


def sunset(draw: Draw, random: Random) -> None:
    horizon, x = random.randint(140, 180), random.randint(60, 190)
    for y in range(horizon):
        draw.line((0, y, SIZE, y), (250 - y // 3, 90 + y // 2, 60 + y // 4))
    draw.ellipse((x - 35, horizon - 50, x + 35, horizon + 20), (255, 220, 120))
    draw.rectangle((0, horizon, SIZE, SIZE), (40, 50, 110))


def forest(draw: Draw, random: Random) -> None:
    draw.rectangle((0, 0, SIZE, SIZE), (190, 220, 240))
    for _ in range(14):
        x, height = random.randint(0, SIZE), random.randint(90, 180)
        draw.polygon([(x - 30, SIZE), (x + 30, SIZE), (x, SIZE - height)], (20, random.randint(80, 130), 40))


def city(draw: Draw, random: Random) -> None:
    draw.rectangle((0, 0, SIZE, SIZE), (15, 15, 45))
    for x in range(0, SIZE, 42):
        top = random.randint(60, 160)
        draw.rectangle((x, top, x + 36, SIZE), (60, 60, 75))
        for y in range(top + 8, SIZE, 18):
            for window in range(x + 5, x + 32, 10):
                if random.random() < 0.6:
                    draw.rectangle((window, y, window + 5, y + 8), (250, 230, 130))


def fruit(draw: Draw, random: Random) -> None:
    draw.rectangle((0, 0, SIZE, SIZE), (235, 225, 205))
    for _ in range(5):
        x, y = random.randint(45, 210), random.randint(60, 210)
        draw.ellipse((x - 36, y - 36, x + 36, y + 36), (random.randint(190, 220), 30, 35), (120, 10, 20), 3)
        draw.line((x, y - 34, x + 5, y - 52), (90, 60, 30), 5)


def chessboard(draw: Draw, random: Random) -> None:
    step = random.choice((28, 32, 36))
    for i in range(0, SIZE, step):
        for j in range(0, SIZE, step):
            dark = (i // step + j // step) % 2
            draw.rectangle((i, j, i + step, j + step), (35, 35, 35) if dark else (240, 240, 235))


SCENES: dict[str, Callable[[Draw, Random], None]] = {
    "the sun goes down over the sea": sunset,
    "fir trees in a forest": forest,
    "lit windows of skyscrapers at night": city,
    "red apples on a table": fruit,
    "the squares of a chessboard": chessboard,
}


def picture(scene: Callable[[Draw, Random], None], seed: int) -> bytes:
    """One variation of a scene, as PNG."""
    image = Image.new("RGB", (SIZE, SIZE))
    scene(ImageDraw.Draw(image), Random(seed))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def show(title: str, hits: Any) -> None:
    print(f"\n{title}")
    for hit in hits:
        print(f"  {hit.score:.2f}  {hit.id}")


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "ml-illustrated/efficientnet-lite0"
    with vectable.connect("memory:") as db:
        images = db.create_table("images", {"caption": "string", "picture": "image"})
        images.add_embedding_column("looks", source="picture", model=model)
        images.add_embedding_column("says", source="caption")
        images.insert(
            [
                {"id": f"{scene.__name__} {seed}", "caption": caption, "picture": picture(scene, seed)}
                for caption, scene in SCENES.items()
                for seed in range(4)
            ]
        )

        # An image that is not in the table, drawn like four that are.
        show("like a new drawing of a forest", by_image(images, picture(forest, 99)))
        show("like a new drawing of a city", by_image(images, picture(city, 99)))

        text = "fruit to eat"
        show(f"captions that mean {text!r}", images.similar(text, on="says").limit(4).collect())
        if knows_text(model):
            show(f"pictures that show {text!r}", images.similar(text, on="looks").limit(4).collect())


def by_image(images: Any, given: bytes) -> Any:
    """The four pictures that look most like the one given."""
    return images.similar(given, on="looks").limit(4).collect()


def knows_text(model: str) -> bool:
    """Whether the model puts texts and images into one space."""
    with vectable.Embedder(model) as embedder:
        return embedder.card().type == "multimodal"


if __name__ == "__main__":
    main()
