"""Networks: backbones of timm, the last layer, locks, ONNX graphs. Torch from here on.

In: a ModelConfig and weights.
Out: a Tagger and its parts.
"""
