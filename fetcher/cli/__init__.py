"""What people see of the commands: options, progress, summaries. Knows nothing of fetching."""
