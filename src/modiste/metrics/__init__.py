"""How good predictions are, and how sure that is; numpy only.

In: targets, probs and decisions (n, labels).
Out: scores, intervals and curves as plain values.
"""
