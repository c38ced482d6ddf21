"""A URLconf with an address that fails."""

from django.urls import include, path

from fetcher.api.endpoint import endpoint


@endpoint()
async def failing(request, given, name=""):
    raise RuntimeError("the password is hunter2")


urlpatterns = [path("failing/", failing), path("failing/<str:name>/", failing), path("", include("fetcher.api.urls"))]
