"""The jobs: parse, load the configuration, call one function, exit code."""
