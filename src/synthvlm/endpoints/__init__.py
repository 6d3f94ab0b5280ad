"""Models behind OpenAI-compatible HTTP endpoints: the clients, the store of replies, and a fake."""
