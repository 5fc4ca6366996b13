"""Makes tests/providers/golden from the real `transformers` and `torch`, which the tests do not need.

In an environment with transformers, torch and pillow:  python tests/providers/make_golden.py
Tiny random models (fixed seed), and what the reference says of fixed inputs. Each folder holds a model as the
reference saves it, `golden.json` the inputs and outputs.
"""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

torch: Any = import_module("torch")
transformers: Any = import_module("transformers")
HERE = Path(__file__).parent / "golden"
IDS = [[3, 9, 7, 15, 4], [3, 4], [3, *range(5, 40), 4]]
SIZES = [(40, 31), (31, 90), (24, 24), (7, 5), (200, 33)]


def picture(width: int, height: int) -> Image.Image:
    """A smooth picture with some noise, the same everywhere."""
    y, x = np.mgrid[:height, :width]
    noise = (x * 7919 + y * 104729) % 61
    planes = [127 + 90 * np.sin(x / 5) + noise / 2, 127 + 90 * np.cos(y / 7), (x * 3 + y * 2 + noise) % 256]
    return Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8), "RGB")


def clip() -> None:
    torch.manual_seed(20)
    for name, activation, eos in (("clip", "quick_gelu", 2), ("clip-gelu", "gelu", 4)):
        text = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
        text |= {
            "num_attention_heads": 4,
            "max_position_embeddings": 77,
            "hidden_act": activation,
            "eos_token_id": eos,
        }
        vision = {
            "hidden_size": 24,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
        }
        vision |= {"image_size": 24, "patch_size": 8, "hidden_act": activation}
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        model = transformers.CLIPModel(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
        target = fresh(name)
        model.save_pretrained(target)
        processor = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
        )
        processor.save_pretrained(target)
        # With the old way of finding the end (id 2), the end has the highest id.
        ids = [[59 if i == 4 and eos == 2 else i for i in one] for one in IDS]
        pixels = [processor(picture(*size), return_tensors="pt")["pixel_values"] for size in SIZES]
        with torch.no_grad():
            texts = [model.get_text_features(torch.tensor([one])).pooler_output[0] for one in ids]
            images = [model.get_image_features(one).pooler_output[0] for one in pixels]
        write(
            target,
            ids=ids,
            texts=texts,
            sizes=SIZES,
            images=images,
            pixels=[one[0, :, ::5, ::5].flatten() for one in pixels],
        )


TEXTS = ["a photo of a cat", "It's  the\tDOG's 42nd BIRTHDAY!?", "naïve café 日本 👩‍👩‍👧", "", "a cat " * 60]


def clip_with_tokenizer() -> None:
    """A whole model: weights as safetensors and as a checkpoint, tokenizer in one file and in two."""
    torch.manual_seed(22)
    alphabet = sorted(byte_letters())
    merges = ["c a", "ca t</w>", "p h", "o t", "t h", "th e</w>"]
    joined = [merge.replace(" ", "") for merge in merges]
    begin, end = "<|startoftext|>", "<|endoftext|>"
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *joined, begin, end]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = transformers.CLIPTokenizer(
        vocab=vocabulary, merges=[tuple(m.split()) for m in merges], model_max_length=32
    )
    size = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    text = {**size, **ends, "vocab_size": len(words), "max_position_embeddings": 32}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**size, "image_size": 16, "patch_size": 8}, projection_dim=12
    )
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    images = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    target = fresh("clip-whole")
    model.save_pretrained(target)
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(target)
    torch.save(model.state_dict(), target / "pytorch_model.bin")
    (target / "vocab.json").write_text(json.dumps(vocabulary))
    (target / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    given = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    pixels = images([picture(*size) for size in SIZES], return_tensors="pt")
    with torch.no_grad():
        texts = model.get_text_features(**given).pooler_output
        vectors = model.get_image_features(**pixels).pooler_output
    ids = tokenizer(TEXTS, truncation=True)["input_ids"]
    write(target, given=TEXTS, ids=ids, texts=list(texts), sizes=SIZES, images=list(vectors))


def byte_letters() -> list[str]:
    """How byte-level tokenizers write the bytes: printable ones as they are, the others from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def encoders() -> None:
    common = {
        "vocab_size": 60,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    distil = {
        "vocab_size": 60,
        "dim": 16,
        "hidden_dim": 24,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 160,
    }
    kinds: dict[str, Any] = {
        "xlm-roberta": transformers.XLMRobertaConfig(
            **common, max_position_embeddings=162, layer_norm_eps=1e-5
        ),
        "distilbert": transformers.DistilBertConfig(**distil),
        "mpnet": transformers.MPNetConfig(**common, max_position_embeddings=162),
    }
    for name, config in kinds.items():
        torch.manual_seed(21)
        model = transformers.AutoModel.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
        target = fresh(name)
        model.save_pretrained(target)
        ids = [*IDS, [3, *[5 + i % 50 for i in range(150)], 4]]
        with torch.no_grad():
            hidden = [model(torch.tensor([one])).last_hidden_state[0] for one in ids]
        write(target, ids=ids, cls=[h[0] for h in hidden], mean=[h.mean(0) for h in hidden])


def fresh(name: str) -> Path:
    shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / name).mkdir(parents=True)
    return HERE / name


def write(target: Path, **content: Any) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return [round(float(x), 6) for x in value]
        return [plain(v) for v in value] if isinstance(value, list) else value

    content["made_with"] = f"transformers {transformers.__version__}, torch {torch.__version__}"
    (target / "golden.json").write_text(json.dumps({k: plain(v) for k, v in content.items()}))


if __name__ == "__main__":
    clip()
    clip_with_tokenizer()
    encoders()
