"""The trainer part of everloop."""
