"""Built-in suites as TOML files, one file a suite.

Holds no code.
"""
