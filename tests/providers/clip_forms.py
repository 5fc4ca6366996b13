"""The tiny CLIP of the golden folder, in every form its files may have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vectable.providers.clip_graph import Tower, build_clip
from vectable.providers.graph import GRAPH_FILE

WHOLE = Path(__file__).parent / "golden" / "clip-whole"
_TOWERS: tuple[Tower, Tower] = ("text", "image")
_CONFIGURATION = ("config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")


def write_clip(directory: Path, form: str = "safetensors") -> Path:
    """`form`: one of FORMS."""
    directory.mkdir(parents=True)
    FORMS[form](directory)
    return directory


def _copy(directory: Path, *names: str) -> None:
    directory.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(WHOLE / name, directory / name)


def _sentence_transformers(directory: Path) -> None:
    """Its first layout: a folder for the model, the tokenizer in two files, a checkpoint of PyTorch."""
    folder = directory / "0_CLIPModel"
    _copy(folder, "config.json", "pytorch_model.bin", "vocab.json", "merges.txt", "tokenizer_config.json")
    inner = json.loads((WHOLE / "processor_config.json").read_text())["image_processor"]
    (folder / "preprocessor_config.json").write_text(json.dumps(inner))
    kinds = [("CLIPModel", "0_CLIPModel"), ("Normalize", "1_Normalize")]
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    (directory / "modules.json").write_text(json.dumps(modules))


def _towers(directory: Path) -> None:
    """As exported tower by tower: outputs called text_embeds and image_embeds."""
    import onnx

    _copy(directory, *_CONFIGURATION)
    (directory / "onnx").mkdir()
    for tower, name in zip(_TOWERS, ("text_model", "vision_model"), strict=True):
        onnx.save(_exported(directory, tower), str(directory / "onnx" / f"{name}.onnx"))


def _joint(directory: Path) -> None:
    """As exported whole: one graph that takes texts and images, and compares them too."""
    import onnx
    from onnx import TensorProto, compose, helper

    _copy(directory, *_CONFIGURATION)
    text = compose.add_prefix(_exported(directory, "text"), "t/", rename_inputs=False, rename_outputs=False)
    image = compose.add_prefix(_exported(directory, "image"), "i/", rename_inputs=False, rename_outputs=False)
    turned = helper.make_node("Transpose", ["image_embeds"], ["turned"])
    compared = helper.make_node("MatMul", ["text_embeds", "turned"], ["logits_per_text"])
    logits = helper.make_tensor_value_info("logits_per_text", TensorProto.FLOAT, ["texts", "images"])
    graph = helper.make_graph(
        [*text.graph.node, *image.graph.node, turned, compared],
        "clip",
        [*text.graph.input, *image.graph.input],
        [logits, *text.graph.output, *image.graph.output],
        [*text.graph.initializer, *image.graph.initializer],
    )
    whole = helper.make_model(graph, opset_imports=text.opset_import, ir_version=text.ir_version)
    onnx.checker.check_model(whole)
    onnx.save(whole, str(directory / "model.onnx"))


def _exported(directory: Path, tower: Tower) -> Any:
    import onnx

    scratch = directory / f"scratch-{tower}"
    scratch.mkdir()
    config = json.loads((WHOLE / "config.json").read_text())
    build_clip(WHOLE / "model.safetensors", config, tower, scratch)
    model = onnx.load(str(scratch / GRAPH_FILE))
    shutil.rmtree(scratch)
    name = f"{tower}_embeds"
    for node in model.graph.node:
        node.output[:] = [name if output == "embedding" else output for output in node.output]
    model.graph.output[0].name = name
    return model


FORMS: dict[str, Callable[[Path], None]] = {
    "safetensors": lambda directory: _copy(directory, "model.safetensors", *_CONFIGURATION),
    "sentence-transformers": _sentence_transformers,
    "towers": _towers,
    "joint": _joint,
}
