"""Evaluation of answers: results, intervals, published figures, and drawings.

`results` grades and counts; `intervals` has every interval, test and verdict; `router_metrics` has what the
field compares routers by; `published` compares ours with the paper's; `comparisons` computes what figures
need beyond these. `figures`, `heatmaps` and `diagrams` draw what was computed; `formats` says how numbers
and names are written. `report_folder` reads and writes a report and knows which of its files are out of
date; `machine` says what it was made on; `standard_tables` has what most reports show; `headline` is the
sentence that opens one; `cautions` lists warnings to read before the numbers.
"""
