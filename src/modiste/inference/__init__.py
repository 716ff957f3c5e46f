"""Tagging: photos in, predictions out, whatever computes the network; no torch.

In: photos as paths, bytes, arrays or streams.
Out: Predictions, files of tags, heatmaps.
"""
