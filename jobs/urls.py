"""Routes of the JSON API of jobs, and of ``/readyz``.

Include them before the fetcher's, which answers for the rest of ``/api/v1/``.
"""

from __future__ import annotations

from django.urls import path

from jobs import api, ready

app_name = "jobs"

urlpatterns = [
    path("readyz", ready.readyz, name="readyz"),
    path("api/v1/jobs/", api.job_list, name="job-list"),
    path("api/v1/jobs/<str:name>/", api.job_detail, name="job-detail"),
    path("api/v1/jobs/<str:name>/runs/", api.job_run, name="job-run"),
]
