"""Routing that is learned from outcomes: a text to calibrated estimates, in microseconds.

`data` reads outcomes, `features` makes numbers of texts, `file` is how a router is written.
"""
