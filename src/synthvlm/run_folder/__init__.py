"""The run folder: files, markers, tables, storage and the lock."""
