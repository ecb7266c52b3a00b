"""OpenAI's bytes and Trivet's types, each made from the other. No sockets: feed bytes, get values."""
