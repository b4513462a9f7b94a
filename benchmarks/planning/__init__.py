"""How good and how fast the planner is: the tables of docs/planning-figures.md.

``python -m benchmarks.planning`` makes them all again, ``python -m benchmarks.planning small`` one.
"""
