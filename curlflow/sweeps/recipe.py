"""A sweep written down in a TOML file."""
