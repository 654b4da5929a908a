"""papermill made truthful: an engine whose notebooks do not flatter themselves, templates by digest, redaction by value, kernels that start at once."""
