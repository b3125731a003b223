"""Train a class-conditional model of labelled images and its judge, with all classes or without one.

These are scripts that are run by hand. Nothing imports them but benchmarks and tests.
"""
