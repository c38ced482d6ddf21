"""Routes of the JSON API of jobs. Include them before the fetcher's, which answers for the rest of ``/api/v1/``."""

from __future__ import annotations

from django.urls import path

from jobs import api

app_name = "jobs"

urlpatterns = [
    path("api/v1/jobs/", api.job_list, name="job-list"),
    path("api/v1/jobs/<str:name>/", api.job_detail, name="job-detail"),
]
