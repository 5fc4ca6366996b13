"""What a server measures of itself: for Prometheus, and summed up for people."""

from vectable.server.metrics.measure import Metrics
from vectable.server.metrics.sample import Sampler, keep_sampling
from vectable.server.metrics.summary import summary

__all__ = ["Metrics", "Sampler", "keep_sampling", "summary"]
