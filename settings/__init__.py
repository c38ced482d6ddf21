"""The project around the apps: settings, URLs and the two server entry points."""
