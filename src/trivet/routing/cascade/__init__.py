"""Cascades: cheap models are asked first, and what their answers have in common says whether a dear one is needed.

`signals` makes numbers of a set of answers, `vote` the chance that the best of them is right, `stop` when to ask no
further and how far that may go, and `section` keeps it in a router file. Pure: no input and output.
"""
