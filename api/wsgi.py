"""The app for a WSGI server: `gunicorn --config deploy/gunicorn.conf.py api.wsgi:app`."""

from api import create_app
from shared import logs
from shared.settings import Settings

settings = Settings.from_env()
logs.configure(settings)
app = create_app(settings)
