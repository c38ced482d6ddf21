"""Routes of the project."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    # First: the fetcher's answer for every other address under /api/v1/.
    path("", include("jobs.urls")),
    path("", include("fetcher.api.urls")),
    path("admin/", admin.site.urls),
]
