"""Where shards run; what is done with them is the stages' business."""
