"""Many models, new ones from a few labels, and a floor under their quality that holds.

`logistic` fits a few weights with a prior, `skills` says what texts ask for and what models can do, `enrolment` adds a
model, `clusters` is the other way (UniRoute), `promise` finds how far one may save, `plan` weighs the three legs, and
`pool` is all of it as sections of a router file.
"""
