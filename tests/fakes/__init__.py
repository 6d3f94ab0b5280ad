"""Stand-ins for what tests cannot reach: the Hugging Face hub, an OpenAI-compatible endpoint."""
