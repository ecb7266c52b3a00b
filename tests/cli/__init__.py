"""A package, so that `test_keys.py` here and the one of `ledger` are two modules."""
