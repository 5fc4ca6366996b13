"""Queries: plain scans and similarity search, planned by size and filter."""

from vectable.engine.search.result import SearchResult
from vectable.engine.search.searcher import IndexStatus, Searcher, drive

__all__ = ["IndexStatus", "SearchResult", "Searcher", "drive"]
