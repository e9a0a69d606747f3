"""Questions asked of the whole pipeline, one file a study.

`paper_tables` and `variants` reproduce the paper's tables; `ablations` varies one setting; `run_time`
measures ways to run; `accuracy_calls` draws sequential recruiting's curve; `keyword_variance` puts the draw
of keywords into an interval; `routers` and `extraction` study recorded answers.
"""
