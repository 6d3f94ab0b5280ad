"""The explorer: pairs of a run or a data set to search, filter, sort, look at and mark."""
