"""Many trainings: comparisons, cross-validation, ensembles.

In: a Grid or several runs.
Out: a Ranking with its page, or a blend folder.
"""
