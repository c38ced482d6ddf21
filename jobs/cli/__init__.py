"""What people see of the commands of jobs."""
