"""Learning on the job: what a router was told in training, corrected by what comes of its choices, and kept in bounds.

`drift` notices that a model is not what it was, `bound` says how sure a mean is while one watches it, `guard` goes back
to the reference model and says when it is safe to return, `allowance` how much may be tried within a promise,
`thompson` chooses and learns, `estimate` says what another way to choose would have earned. More: `docs/online.md`.
"""
