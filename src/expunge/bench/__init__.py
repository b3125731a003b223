"""Benchmarks: methods x concepts x seeds from one TOML file. Each unit is done once, and tables are made of all.

Measurement is done by `evaluation` and `audits`; nothing here computes a metric.
"""
