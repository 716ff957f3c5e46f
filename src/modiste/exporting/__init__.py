"""From a run or blend to one ONNX file with its card, in float32 or int8.

In: a run or blend folder, and photos to compare on.
Out: an exported file that needs no torch.
"""
