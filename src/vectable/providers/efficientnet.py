"""EfficientNet-Lite0 from its weights package: images to vectors by how they look. It knows no text."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

from vectable.errors import ModelUnavailable
from vectable.interfaces import ModelIdentity
from vectable.providers.efficientnet_graph import (
    DIMENSIONS,
    EDGE,
    EFFICIENTNET_GRAPH_VERSION,
    build_efficientnet,
)
from vectable.providers.graph import GRAPH_FILE
from vectable.providers.graph_cache import cached_graph
from vectable.providers.images import Preprocessing
from vectable.providers.runtime import DEFAULT_THREADS, open_session
from vectable.providers.towers import ImageTower, TowerProvider
from vectable.providers.weights import EFFICIENTNET_FILE, Located, checked_sha256

_TRAINED_WITH = Preprocessing(
    shortest_edge=256, size=None, crop=(EDGE, EDGE), mean=(127 / 255,) * 3, std=(128 / 255,) * 3
)
"""As its authors evaluate it: an eighth cut off the edges, pixels to about -1 to 1."""


def load_efficientnet(
    located: Located,
    cache_dir: Path,
    *,
    threads: int = DEFAULT_THREADS,
    executor: Executor | None = None,
) -> TowerProvider:
    """Loads the model in 0.2 s (the first time its graph is built, 1 s), kept in `cache_dir`. Raises
    ModelUnavailable (missing, damaged)."""
    weights = located.directory / EFFICIENTNET_FILE
    checksum = checked_sha256(located, weights)
    name = f"efficientnet-lite0-{checksum[:32]}-v{EFFICIENTNET_GRAPH_VERSION}"
    try:
        with cached_graph(cache_dir, name, lambda target: build_efficientnet(weights, target)) as directory:
            session = open_session(directory / GRAPH_FILE, threads)
    except OSError as error:
        raise ModelUnavailable(f"the graph of {located.id} cannot be built: {error}") from None
    fingerprint = f"efficientnet-fp32:{checksum}:{_TRAINED_WITH.fingerprint}"
    return TowerProvider(
        ModelIdentity(located.id, fingerprint),
        DIMENSIONS,
        None,
        ImageTower(session, _TRAINED_WITH),
        executor=executor,
    )
