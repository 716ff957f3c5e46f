"""From probabilities to chosen labels: calibration, label shift, thresholds, blends.

In: probs (n, labels), and targets where something is fitted.
Out: a Decision as one value and one file; Decided arrays.
"""
