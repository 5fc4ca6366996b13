"""Vectable: tables that embed themselves."""
