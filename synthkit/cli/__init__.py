"""The command line: parse, load, one library call, print.

A command's module is imported when the command is called, so `synthkit --help` imports none. Within a
module, what takes a second or more to import (tables, audits, evaluation, torch) stands inside the
function that needs it: this is the one place where imports inside functions are right, because a
command's own help, a mistyped option and a recipient's `release verify` must not wait for pandas.
"""
