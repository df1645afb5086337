"""Measures of image sets, one a file: arrays in, numbers out."""
