"""What the answers are worth: results, intervals, published figures, and how they are drawn.

`results` grades and counts; `intervals` has every interval, test and verdict; `published` sets ours
beside the paper's; `figures` and `heatmaps` draw what was computed and compute nothing. `report_folder`
reads and writes a report and knows what in it is out of date; `standard_tables` has what most reports show;
`cautions` says what must be known before the numbers.
"""
