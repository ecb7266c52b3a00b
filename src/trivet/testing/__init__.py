"""Public, for tests and for the authors of plugins: a scripted upstream on a real port, a conformance suite per seam.

Nothing that serves requests imports it.
"""
