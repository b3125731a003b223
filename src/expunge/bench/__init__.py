"""Benchmarks: methods x concepts x seeds from one TOML file, each unit done once, and their tables.

Measures through `evaluation` and `audit`; computes no metric of its own.
"""
