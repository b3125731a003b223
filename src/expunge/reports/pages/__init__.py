"""One file a page, each filled into a template.

Reads values; computes none.
"""
