"""Models behind OpenAI-compatible HTTP endpoints: the client, the store of replies, and a fake."""
