"""Routes of the JSON API."""

urlpatterns: list[object] = []
