"""From texts and images to vectors: cache first, then the model, in batches that waste nothing."""

from vectable.engine.embed.embedder import Embedder
from vectable.engine.embed.encoded import Encoded
from vectable.engine.embed.outcomes import Failure

__all__ = ["Embedder", "Encoded", "Failure"]
