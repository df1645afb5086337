"""Corrections of a volume's values that params ask for: bias field and brain extraction. It may
import `core`.
"""
