"""LLaVA-style training on exported data: reads conversations and images, never generators."""
