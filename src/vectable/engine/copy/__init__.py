"""Copying tables from one database to another, whatever their backends."""

from vectable.engine.copy.copier import copy_tables
from vectable.engine.copy.result import Copied, CopiedTable
from vectable.engine.copy.side import Report, Side

__all__ = ["Copied", "CopiedTable", "Report", "Side", "copy_tables"]
