"""Evaluation of answers: results, intervals, published figures, and drawings.

`results` grades and counts; `intervals` has every interval, test and verdict; `router_metrics` has what the
field compares routers by; `published` compares ours with the paper's; `figures` and `heatmaps` draw what was
computed and compute nothing. `report_folder` reads and writes a report and knows which of its files are out
of date; `standard_tables` has what most reports show; `cautions` lists warnings to read before the numbers.
"""
