"""Configuration, the `everloop` command, the local runtime and what drives the loop as a whole."""
