"""A project that does not mount the API."""

urlpatterns: list[object] = []
