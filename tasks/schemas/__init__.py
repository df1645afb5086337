"""Schemas of the tables and JSON files that stages exchange."""
