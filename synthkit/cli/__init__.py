"""The command line: parse, load, one library call, print.

Command modules import only typer and paths at their top, and everything else inside the function that
needs it: this is the one place where imports inside functions are right, because `synthkit --help` and a
recipient's `synthkit release verify` must not pay for torch or pandas.
"""
