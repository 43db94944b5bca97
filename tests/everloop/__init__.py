"""Tests of everloop/: configuration, the command, the local runtime."""
