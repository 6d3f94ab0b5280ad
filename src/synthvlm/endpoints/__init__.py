"""Models behind OpenAI-compatible HTTP endpoints: the clients and the store of replies."""
