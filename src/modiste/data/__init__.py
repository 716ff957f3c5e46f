"""Photos and tables: the one decoder, every kind of manifest, label columns, splits and groups.

In: files, folders and tables.
Out: photos as RGB arrays; a Manifest of photos, targets and splits.
"""
