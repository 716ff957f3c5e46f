"""Arrays by key in files that only grow, and the cache folder of what is computed once.

In: keys and arrays.
Out: memory-mapped arrays, and room on the disk.
"""
