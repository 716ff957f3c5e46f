"""What is wrong with a data set, and a cleaned manifest.

In: a Manifest and its photos.
Out: Findings, a page, a repaired Manifest.
"""
