"""Run and blend folders, the predictions kept in them, and loading any model.

In: a folder or a file.
Out: a Run, a BlendRun, or a Predictor; torch only where a run needs it.
"""
