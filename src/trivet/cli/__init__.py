"""The command line: one module for each command, imported only when it is called, so that `trivet --help` is quick.

`main.py` has the group, the exit codes and what an error looks like; `build.py` builds the stages once for the
commands that answer requests; `text.py` writes money, times and names for people.
"""
