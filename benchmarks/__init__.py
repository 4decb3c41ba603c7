"""Speed beside other libraries, as ratios. Run `python benchmarks/ranking.py --quick` from a checkout."""
