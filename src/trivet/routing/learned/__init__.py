"""Routing that is learned from outcomes: a text to calibrated estimates, in microseconds.

`data` reads outcomes, `features` makes numbers of texts, `heads` fits linear weights, `calibrate` makes chances of
sums, `compiled` adds them up fast; `learned` is the whole, `file` how it is written, `curve` what it is worth.
"""
