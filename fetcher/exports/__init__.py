"""A run's results and bodies to files, page by page: memory does not grow with the run."""
