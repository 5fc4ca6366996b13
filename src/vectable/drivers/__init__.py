"""Connections, transactions and migrations of the databases we keep our own state in."""
