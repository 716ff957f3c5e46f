"""Photos to be tagged, as a stream, however many.

In: files, folders, patterns, tables, URLs.
Out: named photos in parts that are the same each time they are read.
"""
