"""The providers, one module each; the HTTP client they share; the engine of embedded models."""
