"""The command line: `skillmoe COMMAND`, or `python -m skillmoe_lib COMMAND`.

`commands` parses; `notebooks` runs them; `report`, `status`, `doctor` and `why` are one command each.
"""
