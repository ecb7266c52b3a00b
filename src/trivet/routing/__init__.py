"""Which targets, in which order; and what a policy means once it is compiled."""
