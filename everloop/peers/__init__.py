"""Other systems that do a part of what everloop does, measured beside it: each in a process and an environment of its own.

A folder per bench holds what was asked for (`requirements.in`), what that resolved to (`requirements.lock`, with hashes)
and one script per peer. A script reads the same input file as ours and prints one JSON object. Peers are never a
dependency of everloop: their environment is made in the user's cache folder the first time a bench asks for it.
"""
