"""Studies of the whole pipeline, one file for each.

`paper_tables` and `variants` reproduce the paper's tables; `ablations` varies one setting; `run_time`
measures ways of running; `loads` counts how often each policy loads models; `accuracy_calls` computes
sequential recruiting's curve; `keyword_variance` includes the draw of keywords in an interval; `routers` and
`extraction` study recorded answers.
`outcomes` holds what every expert of a pool answered, `what_if` replays methods on it, `pool` computes what
each expert is worth in the `games` of its sub-pools, `six_questions` sums that up, and `skills` shows what
each is good at, with intervals; `explorer` is a panel of what-if questions in JupyterLab, and
`what_if_page` prepares the report's page for readers without Jupyter. `plan` rehearses the chain to say
what it would take.
"""
