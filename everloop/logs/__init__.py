"""Logs: what readers did once, read through a mapping file as slates in the order of their time.

Here belongs how rows of a CSV, JSONL or Parquet file become slates: columns, clocks, outcomes, side tables. What is done
with the slates (asked of a gateway, taught to a trainer) belongs to those who read them. A log itself is never part of
the project.

Read in this order:

1. `mapping`    the mapping file: which column is what
2. `conditions` the `when` of an outcome, e.g. `rating >= 4`
3. `tables`     a file as Arrow tables, with the columns that the mapping names
4. `columns`    a table's columns as times, ids and feature values
5. `groups`     which rows form a slate
6. `history`    what a reader did before, as a feature of what comes next
7. `slates`     slates in the order of their time
8. `samples`    slates as samples with immediate labels, for training from a log
9. `movielens`  the log that the demo uses, fetched at first use
10. `catalogue` a log by its name or its path
"""
