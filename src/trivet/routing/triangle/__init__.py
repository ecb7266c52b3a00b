"""The triangle in force: what a policy holds, weighed for each request by a trained router."""
