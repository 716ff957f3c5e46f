"""Scores of a run, tuning of its decision, and the report.

In: a run or blend folder.
Out: an Evaluation, a Decision, a page.
"""
