"""Code that several stages share: slice sets, arms, torch setup, slice montages, stage code.

It imports `tasks.schemas` and `tasks.stage`, never a stage, nor `tasks.params`, which use it.
"""
