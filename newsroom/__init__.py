"""The newsroom part of everloop."""
