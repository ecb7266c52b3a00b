"""Answers already known. Exact repeats are found by key; the policy says what may be kept."""
