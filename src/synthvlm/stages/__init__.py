"""The stages: shard in, shard out."""
