"""The command line: `skillmoe COMMAND`, or `python -m skillmoe_lib COMMAND`.

`commands` parses; `parameters` checks what notebooks are given, `notebooks` runs them; `flow` draws the
flow; `report`, `status`, `doctor`, `why`, `migrate` and `new` are one command each.
"""
