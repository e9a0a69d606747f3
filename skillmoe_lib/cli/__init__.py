"""The command line: `skillmoe COMMAND`, or `python -m skillmoe_lib COMMAND`.

`commands` parses; `parameters` checks what notebooks are given, `notebooks` runs them in `kernels`; `flow`
draws it; `report`, `status`, `plan`, `doctor`, `why`, `migrate` and `new` are one command each; `recordings`
is `import`.

The report's pages: `report` is `index.html` in the order that `layout` tells; `rows` are the rows behind its
numbers, `in_full` a few questions in full, `notebook_page` the executed notebooks, `what_if_page` the page
with controls; `page` is the look of all.
"""
