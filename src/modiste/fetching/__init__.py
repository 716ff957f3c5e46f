"""From a list of URLs to photos on disk: polite, checked, resumable.

In: a table with a URL column.
Out: photos as files or shards, and their manifest.
"""
