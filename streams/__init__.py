"""The streams part of everloop."""
