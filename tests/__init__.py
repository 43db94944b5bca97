"""The suite: one folder per part, mirroring the packages, and end to end."""
