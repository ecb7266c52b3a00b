"""The semantic tier: a question that is like one answered before gets that answer, if it is likely enough to be right.

A look finds the nearest kept questions; a *decider* says how likely the best of them is right and whether to serve it;
what comes back (a fresh answer to compare, an audit, feedback) teaches the decider.
"""
