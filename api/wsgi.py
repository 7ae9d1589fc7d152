"""The app for a WSGI server: `gunicorn --config deploy/gunicorn.conf.py api.wsgi:app`."""

from api import create_app
from shared import logs, tracing
from shared.settings import Settings

settings = Settings.from_env()
logs.configure(settings)
# Here, and not where gunicorn reads its settings: this is the process that answers.
tracing.begin(settings, role="api")
app = create_app(settings)
