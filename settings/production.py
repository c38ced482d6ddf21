"""For a server. Refuses to start without what a server needs."""

import os

from django.core.exceptions import ImproperlyConfigured

from settings.base import *  # noqa: F403
from settings.base import ALLOWED_HOSTS, SECRET_KEY

if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY must be set in production; make one with: openssl rand -base64 48")
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS must be set in production, for example ALLOWED_HOSTS=trawl.example.org")

DEBUG = False
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
if os.environ.get("TRUST_PROXY") == "1":  # only behind a proxy that sets this header itself
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
