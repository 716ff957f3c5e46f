"""The training loop and what feeds it: batches, features computed once, augmentation, losses.

In: a Recipe and a Manifest.
Out: a finished run folder.
"""
