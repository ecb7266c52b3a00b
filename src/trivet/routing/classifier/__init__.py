"""The router `classifier`: a small model sorts requests into simple and complex, before they are called."""
