"""The benchmark: methods x concepts x seeds from one TOML file, each done once, and what they add up to."""
