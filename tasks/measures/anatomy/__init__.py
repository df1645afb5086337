"""Measures of what images show: body, tumour, power spectrum, agreement of masks, and site.

The modules do not import each other; they may import `models` and `tasks.common.slice_set`.
"""
