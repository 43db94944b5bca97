"""The configuration: what the parts declare, composed, read once, validated, and where each value came from.

Here belongs how a value gets from a file, the environment or a flag into a part's settings. What a setting means, its
default and its range belong to the part that uses it, in its own `settings` module.

Read in this order:

1. `compose`    the one `Config`, made of the parts' settings
2. `ranges`     a field's type, as a person reads it
3. `convert`    a tree of plain values to settings, or one line that says what is wrong
4. `load`       file, environment and flags, the later overruling the earlier
"""
