"""The command line: one file a command, and what commands share.

In: arguments.
Out: results on stdout, progress and sentences on stderr, an exit code.
"""
