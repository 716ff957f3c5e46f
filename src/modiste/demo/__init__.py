"""Drawn garments and what the demo does with them.

In: a seed.
Out: photos with labels, and a trained run.
"""
