"""HTML pages and plots that several parts share, and their templates.

In: scores and arrays.
Out: one page that needs no network, and PNG files.
"""
