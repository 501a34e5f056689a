"""The config file: schema, units, loading from TOML and environment, and one line per mistake. Pure but for reading the file."""
