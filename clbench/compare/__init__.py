"""`clbench compare`: two runs on the same cases, with intervals, and a verdict that a CI job can use.

`sides` reads and pairs run folders, `table` computes the differences, `gate` decides, `words` writes. No torch.
"""

from clbench.compare.gate import FailBy, FailOn, Verdict, parse_fail_on
from clbench.compare.sides import Matched, match_runs
from clbench.compare.table import Comparison, Line, compare

__all__ = ["Comparison", "FailBy", "FailOn", "Line", "Matched", "Verdict", "compare", "match_runs", "parse_fail_on"]
