"""The record of what became of every file of a batch, and the tables that the stage writes. It may
import `core`, `conversion` and `privacy`.
"""
