"""The WSGI entry point, for servers that speak nothing newer. The same URLs answer the same."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.dev")
application = get_wsgi_application()
