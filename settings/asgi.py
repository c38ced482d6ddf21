"""The ASGI entry point: what ``manage.py serve`` runs."""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.dev")
application = get_asgi_application()
if settings.DEBUG:
    # The admin's style sheets; on a server, the web server in front serves what collectstatic gathered.
    application = ASGIStaticFilesHandler(application)
