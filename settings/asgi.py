"""The ASGI entry point: what ``manage.py serve`` runs."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.dev")
application = get_asgi_application()
