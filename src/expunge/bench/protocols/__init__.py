"""Built-in suites, one TOML file for each.

There is no code here.
"""
