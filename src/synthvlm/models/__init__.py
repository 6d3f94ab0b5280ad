"""Models: devices, memory, where a model lies, what it is, and how it is loaded."""
