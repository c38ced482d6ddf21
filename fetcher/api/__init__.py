"""The JSON API: async views over what was saved."""
